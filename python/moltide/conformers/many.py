"""Conformers of many molecules, on several threads, remembered by their text."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moltide.conformers.generate import MOST_ATOMS, Conformer, conformer, quiet
from moltide.errors import DataError
from moltide.sequences import Progress, ProgressCallback

# A drug takes about a kilobyte.
_REMEMBERED = 200_000


class ConformerCache:
    """Conformers by the text of their molecule, the oldest dropped first.

    Args:
        seed, effort, most, graph: see `conformer`.
    """

    def __init__(
        self,
        seed: int = 42,
        effort: str = "fast",
        size: int = _REMEMBERED,
        most: int = MOST_ATOMS,
        graph: bool = False,
    ) -> None:
        self.seed, self.effort, self.size, self.most, self.graph = seed, effort, size, most, graph
        self._found: OrderedDict[str, Conformer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, molecules: Sequence[Any]) -> list[Conformer | DataError]:
        """A conformer for each molecule, or why there is none."""
        missing: dict[Any, Any] = {}
        for index, molecule in enumerate(molecules):
            if isinstance(molecule, str):
                if molecule not in self._found:
                    missing.setdefault(molecule, molecule)
            else:
                missing[index] = molecule
        listed = list(missing.values())
        found = _told(_made(listed, self.seed, self.effort, self.most, self.graph), len(listed))
        made = dict(zip(missing, found, strict=True))
        results = [
            self._found.get(molecule) or made[molecule]
            if isinstance(molecule, str)
            else made[index]
            for index, molecule in enumerate(molecules)
        ]
        for key, one in made.items():
            if isinstance(key, str) and isinstance(one, Conformer):
                self._found[key] = one
        while len(self._found) > self.size:
            self._found.popitem(last=False)
        return results

    def __getstate__(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "effort": self.effort,
            "size": self.size,
            "most": self.most,
            "graph": self.graph,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def conformers(
    molecules: Sequence[Any],
    seed: int = 42,
    effort: str = "fast",
    progress: bool | ProgressCallback | None = None,
    most: int = MOST_ATOMS,
) -> list[Conformer | DataError]:
    """A conformer for each molecule, or the error that says why there is none.

    Runs on as many threads as there are processors to run on; the result does not depend on it.

    Args:
        molecules: as `conformer` takes them.
        progress: True for a bar, or a function of (molecules done, total).
        most: see `conformer`.

    Raises:
        ConfigError: another `effort`.
        MissingDependencyError: RDKit is not installed.
    """
    found = []
    with Progress(progress, len(molecules), "conformers") as bar:
        for one in _made(molecules, seed, effort, most, graph=False):
            found.append(one)
            bar.add(1)
    return found


def _told(made: Iterator[Conformer | DataError], count: int) -> Iterator[Conformer | DataError]:
    """The same, with a bar on a terminal where it takes more than a moment."""
    from tqdm.auto import tqdm

    yield from tqdm(
        made, total=count, desc="conformers", unit="mol", disable=None, delay=2.0, leave=False
    )


def _made(
    molecules: Sequence[Any], seed: int, effort: str, most: int, graph: bool
) -> Iterator[Conformer | DataError]:
    def one(molecule: Any) -> Conformer | DataError:
        try:
            return conformer(molecule, seed, effort, most, graph)
        except DataError as error:
            return error

    if len(molecules) < 2:
        yield from map(one, molecules)
        return
    # Its threads share one switch for RDKit's log; RDKit computes without the interpreter's lock.
    with quiet(), ThreadPoolExecutor(min(len(molecules), _processors())) as pool:
        yield from pool.map(one, molecules)


def _processors() -> int:
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1
