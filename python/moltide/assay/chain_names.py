"""Names by which people call the columns of an antibody's chains."""

from __future__ import annotations

import re

from moltide.pairs import CHAINS

# What may stand before and behind the name of a chain, in any number: VH_sequence, fv_heavy, hc_aa.
_AROUND = "(?:sequence|seq|chain|aa|fv|fab|protein|variable|region|domain|alignment|antibody|ab)*"
_CALLED = {"heavy": "heavy|vheavy|vh|hc|igh", "light": "light|vlight|vl|vk|lc|igk|igl"}
_NAMES = {chain: re.compile(f"{_AROUND}(?:{_CALLED[chain]}){_AROUND}") for chain in CHAINS}


def chain_named(name: str) -> str | None:
    """ "heavy" or "light" for the name of a column, else None; only its letters count."""
    letters = re.sub("[^a-z]", "", name.lower())
    return next((chain for chain in CHAINS if _NAMES[chain].fullmatch(letters)), None)
