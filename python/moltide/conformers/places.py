"""Token ids with the place of each token beside them."""

from __future__ import annotations

from typing import Any

import numpy as np


class PlacedTokens(np.ndarray):
    """int32 token ids (T,) as any others, with `coordinates` float32 (T, 3).

    What is computed from them, parts included, are plain ids: `coordinates` is None there.
    """

    coordinates: np.ndarray | None

    def __array_finalize__(self, source: Any) -> None:
        self.coordinates = None


def placed(tokens: np.ndarray, coordinates: np.ndarray) -> PlacedTokens:
    """These ids at these places.

    Raises:
        ValueError: not one row of three coordinates for each token.
    """
    if coordinates.shape != (len(tokens), 3):
        raise ValueError(f"coordinates of shape {coordinates.shape} for {len(tokens)} tokens")
    result = np.asarray(tokens, dtype=np.int32).view(PlacedTokens)
    result.coordinates = np.ascontiguousarray(coordinates, dtype=np.float32)
    return result


def coordinates_of(tokens: np.ndarray) -> np.ndarray | None:
    """(T, 3) of placed tokens, None of others: what the engine's `coordinates` wants."""
    found: np.ndarray | None = getattr(tokens, "coordinates", None)
    return found
