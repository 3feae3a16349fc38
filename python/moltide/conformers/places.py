"""Token ids with what is known of each token beside them: where it is, and what it is like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Of a token and of a pair of tokens: what the engine's model with a stream of pairs takes.
TOKEN_CATEGORIES, PAIR_CATEGORIES = 10, 5
Described = tuple[np.ndarray, np.ndarray, np.ndarray]


class PlacedTokens(np.ndarray):
    """int32 token ids (T,) as any others, with `coordinates` float32 (T, 3), and for models with a
    stream of pairs `categories`: int16 of tokens (T, 10) and of pairs (sum of L^2, 5), -1 for none.

    What is computed from them, parts included, are plain ids: both are None there.
    """

    coordinates: np.ndarray | None
    categories: tuple[np.ndarray, np.ndarray] | None

    def __array_finalize__(self, source: Any) -> None:
        self.coordinates = self.categories = None


def placed(
    tokens: np.ndarray,
    coordinates: np.ndarray,
    categories: tuple[np.ndarray, np.ndarray] | None = None,
) -> PlacedTokens:
    """These ids at these places.

    Raises:
        ValueError: not one row of three coordinates, or of ten categories, for each token.
    """
    if coordinates.shape != (len(tokens), 3):
        raise ValueError(f"coordinates of shape {coordinates.shape} for {len(tokens)} tokens")
    result = np.asarray(tokens, dtype=np.int32).view(PlacedTokens)
    result.coordinates = np.ascontiguousarray(coordinates, dtype=np.float32)
    if categories is not None:
        of_tokens, of_pairs = (np.ascontiguousarray(one, dtype=np.int16) for one in categories)
        if of_tokens.shape != (len(tokens), TOKEN_CATEGORIES):
            raise ValueError(f"categories of shape {of_tokens.shape} for {len(tokens)} tokens")
        if of_pairs.ndim != 2 or of_pairs.shape[1] != PAIR_CATEGORIES:
            raise ValueError(f"categories of pairs of shape {of_pairs.shape}")
        result.categories = of_tokens, of_pairs
    return result


def coordinates_of(tokens: np.ndarray) -> np.ndarray | Described | None:
    """What the engine's `coordinates` wants: (T, 3) of placed tokens, a tuple of them and their
    categories where there are any; None of other tokens."""
    found: np.ndarray | None = getattr(tokens, "coordinates", None)
    categories = getattr(tokens, "categories", None)
    return found if found is None or categories is None else (found, *categories)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Token ids of several calls of a tokenizer end to end; placed where these are."""
    if not parts:
        return np.zeros(0, np.int32)
    ids = np.asarray(np.concatenate(parts))
    known = [part for part in parts if isinstance(part, PlacedTokens)]
    where = [part.coordinates for part in known if part.coordinates is not None]
    if len(where) < len(parts):
        return ids
    described = [part.categories for part in known if part.categories is not None]
    if len(described) < len(parts):
        return placed(ids, np.concatenate(where))
    of_tokens, of_pairs = (np.concatenate(column) for column in zip(*described, strict=True))
    return placed(ids, np.concatenate(where), (of_tokens, of_pairs))
