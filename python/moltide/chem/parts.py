"""Work on many molecules by several processes, part by part, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

# Items from which on processes share the work, and how many each takes at a time.
MANY, CHUNK = 2000, 250

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parts(
    function: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    workers: int | None = None,
) -> Iterator[Result]:
    """`function` of each part of `items` in turn; the result is the same for any `workers`.

    Args:
        function: at the top of a module, so that other processes find it.
        workers: processes; None: one a core from 2,000 items on.
    """
    parts = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    if workers is None:
        from moltide._engine import num_threads

        workers = num_threads() if len(items) >= MANY else 1
    if workers <= 1:
        yield from map(function, parts)
        return
    # Its processes neither fork the engine's threads nor import the caller's script again.
    from joblib import Parallel, delayed

    pool = Parallel(workers, backend="loky", return_as="generator")
    yield from pool(delayed(function)(part) for part in parts)
