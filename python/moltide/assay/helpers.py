"""Numeric columns that are nobody's target: ids, counts, positions, noise, predictions."""

from __future__ import annotations

import re

import numpy as np

from moltide.assay.mutations import read_changes
from moltide.assay.profile import Profile, plain_name
from moltide.assay.source import Source
from moltide.assay.values import FloatArray, parse_numbers

_IDS = frozenset([
    "id", "ids", "idx", "index", "row", "rowname", "unnamed", "no", "nr", "number", "name", "key",
    "accession",
])  # fmt: skip
_COUNTS_MUTATIONS = frozenset([
    "nummutations", "nummut", "nummuts", "nmut", "nmuts", "nmutations", "mutationcount",
    "mutationscount", "mutantcount", "numberofmutations", "numberofmutants", "hamming",
    "hammingdistance", "hammingtowt", "numedits", "editdistance", "mutationdistance",
    "nummutants", "nsubstitutions", "numsubstitutions",
])  # fmt: skip
_POSITIONS = frozenset([
    "position", "pos", "site", "aapos", "aaposition", "resi", "residuenumber", "location",
])  # fmt: skip
_LENGTHS = frozenset(["length", "len", "seqlen", "seqlength", "sequencelength"])
_NOISE = frozenset([
    "std", "sd", "se", "sem", "stdev", "stderr", "sigma", "error", "err", "variance", "var", "ci",
    "lower", "upper", "pvalue", "pval", "qvalue", "padj", "fdr", "replicates", "nrep", "nreps",
    "reps",
])  # fmt: skip
_READS = frozenset(["count", "counts", "reads", "coverage", "depth"])
_ORDER = frozenset([
    "time", "date", "day", "month", "year", "round", "cycle", "batch", "plate", "run", "fold",
    "cluster", "group", "weight", "weights",
])  # fmt: skip
_PREDICTORS = re.compile(
    r"^(esm.*|tranception.*|eve|gemme|evmutation|deepsequence.*|msatransformer.*|vespa.*|saprot.*|"
    r"progen.*|unirep.*|carp.*|wavenet|proteinmpnn|mif|mifst|alphamissense|cadd|polyphen.*|sift|"
    r"foldx|rosetta|provean|wtmarg|pred|preds|predicted|prediction|predictions|zeroshot|llr|"
    r"loglikelihood|pseudoperplexity|perplexity|ppl|blosum.*)$"
)


def not_a_target(source: Source, profile: Profile, profiles: dict[str, Profile]) -> str:
    """Why a numeric column is no measurement, or "" when it could be one.

    Content is asked where it can tell (a column equal to the number of mutations, or counting
    the rows); otherwise the words of the name are.
    """
    plain = plain_name(profile.name)
    words = set(re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+", profile.name.replace("_", " ")))
    tokens = {word.lower() for word in words} | {plain}
    values = parse_numbers(source.texts(profile.name)).values
    if plain in _IDS or re.search(r"(^|[_ .])id$", profile.name.lower()) or _counts_rows(values):
        return "numbers the rows"
    if counts_mutations_by_name(profile.name) or _counts_mutations(source, values, profiles):
        return "counts mutations"
    if plain in _POSITIONS:
        return "is a position"
    if plain in _LENGTHS:
        return "is a length"
    if any(_PREDICTORS.match(token) for token in _name_tokens(profile.name) | {plain}):
        return "is another model's prediction by its name"
    if tokens & _NOISE:
        return "is a measure of noise by its name"
    if tokens & _READS:
        return "counts reads by its name"
    if plain in _ORDER:
        return "orders or groups the rows by its name"
    finite = values[~np.isnan(values)]
    if finite.size and (finite == finite[0]).all():
        return f"never varies: {finite[0]:g} in every row"
    original = _thresholded(source, profile, profiles, values)
    return f"is {original!r} cut into two" if original else ""


def counts_mutations_by_name(column: str) -> bool:
    """Whether a column is called something like `num_mutations` or `hamming`."""
    return plain_name(column) in _COUNTS_MUTATIONS


def _name_tokens(name: str) -> set[str]:
    return {token for token in re.split(r"[^a-z0-9]+", name.lower()) if token}


def _counts_rows(values: FloatArray) -> bool:
    if len(values) < 3 or np.isnan(values).any():
        return False
    return bool((np.diff(values) == 1).all() and values[0] in (0, 1))


def _counts_mutations(source: Source, values: FloatArray, profiles: dict[str, Profile]) -> bool:
    columns = [name for name, profile in profiles.items() if profile.kind == "mutations"]
    if not columns or np.isnan(values).any() or np.ptp(values) == 0:
        return False
    counts = []
    for text in source.texts(columns[0]):
        changes = read_changes(text)
        if isinstance(changes, str):
            return False
        counts.append(len(changes))
    return bool((values == np.array(counts)).all())


def _thresholded(
    source: Source, profile: Profile, profiles: dict[str, Profile], values: FloatArray
) -> str:
    """The column that this two-valued one is a threshold of (`DMS_score_bin` of `DMS_score`)."""
    known = values[~np.isnan(values)]
    levels = np.unique(known)
    if len(levels) != 2:
        return ""
    for name, other in profiles.items():
        if name == profile.name or other.kind != "number" or not profile.name.startswith(name):
            continue
        scores = parse_numbers(source.texts(name)).values
        low, high = scores[values == levels[0]], scores[values == levels[1]]
        low, high = low[~np.isnan(low)], high[~np.isnan(high)]
        if low.size and high.size and (low.max() <= high.min() or high.max() <= low.min()):
            return name
    return ""
