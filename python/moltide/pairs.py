"""Two chains as one text: `HEAVY:LIGHT` in tables and messages, a linker between them in a model.

A model of single chains knows no separator, but it knows what single-chain Fv fragments look like:
heavy variable domain, (GGGGS)3, light variable domain (Huston et al. 1988,
10.1073/pnas.85.16.5879). So this is what it reads, in one pass, in which either chain attends to
the other. ESMFold reads complexes alike, through 25 glycines (Lin et al. 2023,
10.1126/science.ade2574); separators are for models trained on pairs (Burbach and Briney 2024,
10.1016/j.patter.2024.100967).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Between the chains in text: no residue, and no token of a published vocabulary.
BREAK = ":"
#: Between the chains in what a model reads.
LINKER = "GGGGS" * 3
CHAINS = ("heavy", "light")


def join(heavy: str, light: str) -> str:
    """The pair as one text."""
    return heavy + BREAK + light


def chains(text: str) -> list[str]:
    """[heavy, light] of a pair; of a single sequence [itself]."""
    return text.split(BREAK)


def is_pair(text: str) -> bool:
    return BREAK in text


def lengths(text: str) -> tuple[int, ...]:
    """Residues of each chain."""
    return tuple(map(len, chains(text)))


def linked(text: str) -> str:
    """What a model reads."""
    return text.replace(BREAK, LINKER)


def of_chains(text: str) -> npt.NDArray[np.bool_]:
    """(len(linked(text)),) True at residues of the chains, False in the linker."""
    import numpy as np  # The command's help, which imports this module, needs no arrays.

    inside = np.ones(len(linked(text)), dtype=bool)
    if is_pair(text):
        start = text.index(BREAK)
        inside[start : start + len(LINKER)] = False
    return inside


def place(position: int, heavy_length: int) -> str:
    """What position `position` (0-based, over both chains and the break) is called."""
    if position < heavy_length:
        return f"heavy {position + 1}"
    return f"light {position - heavy_length}"
