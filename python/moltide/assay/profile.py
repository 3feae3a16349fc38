"""What a column holds, told from its cells: residues, SMILES, mutations, numbers, a split, text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moltide.assay.mutations import is_wild_type, read_changes
from moltide.assay.residues import PROTEIN
from moltide.assay.source import Source
from moltide.assay.values import MISSING_WORDS, RELATIONS, parse_numbers

# What people call the parts of a split, and what they mean.
SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "tune": "valid",
    "test": "test", "testing": "test", "holdout": "test", "held-out": "test", "heldout": "test",
}  # fmt: skip
# A name that says "this is the sequence", stripped of everything but letters.
SEQUENCE_NAMES = frozenset([
    "sequence", "seq", "sequences", "aasequence", "aaseq", "aminoacidsequence", "proteinsequence",
    "proteinseq", "protein", "mutatedsequence", "mutatedseq", "mutantsequence", "mutantseq",
    "variantsequence", "variantseq", "fullsequence", "peptide", "peptidesequence", "primary",
    "residues",
])  # fmt: skip
SMILES_NAMES = frozenset([
    "smiles", "canonicalsmiles", "isomericsmiles", "smilescanonical", "rdkitsmiles",
    "standardsmiles", "standardizedsmiles", "standardisedsmiles", "molsmiles", "drug", "mol",
    "molecule", "compound", "structure", "ligand", "ligandsmiles", "compoundsmiles",
])  # fmt: skip
MUTATION_NAMES = frozenset([
    "mutant", "mutants", "mutation", "mutations", "variant", "variants", "substitution",
    "substitutions", "aasubstitutions", "aamutations", "aachange", "hgvspro", "mutationstring",
    "mutatedpositions",
])  # fmt: skip
_RESIDUES = re.compile(rf"[{PROTEIN.letters}{PROTEIN.ambiguous}\s*.-]+", re.IGNORECASE)
_SAMPLE = 2000
_SMILES = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$%/\\.:~*<>]+")
# What SMILES have and residues do not: bonds, branches, rings, brackets, aromatic atoms.
_CHEMICAL = re.compile(r"[()=#\[\]0-9]|[cnos]")
# Mean length from which words in upper case pass for residues, by themselves or with a name.
_SHORTEST, _SHORTEST_NAMED = 7, 2


@dataclass(frozen=True)
class Profile:
    """One column: `kind` is what `share` of its `filled` cells (of `rows`) hold."""

    name: str
    kind: str  # residues smiles nucleotides structure mutations number split relation text empty
    share: float
    rows: int
    filled: int
    distinct: int

    @property
    def plain_name(self) -> str:
        return plain_name(self.name)


def plain_name(name: str) -> str:
    """A column name reduced to its letters, for comparison with known names."""
    return re.sub(r"[^a-z]", "", name.lower())


def profile_column(source: Source, column: str) -> Profile:
    """Tell what `column` holds. Content decides; names only rank candidates afterwards."""
    texts = source.texts(column)
    filled = [text for text in texts if text.lower() not in MISSING_WORDS]
    distinct = list(dict.fromkeys(filled))

    def found(kind: str, share: float = 1.0) -> Profile:
        return Profile(column, kind, share, len(texts), len(filled), len(distinct))

    if not filled:
        # A relation column may be empty wherever the value is exact.
        return found("empty", 0.0)
    if len(distinct) <= 20:
        words = {text.lower() for text in distinct}
        parts = {SPLIT_WORDS.get(word) for word in words}
        if None not in parts and "train" in parts and len(parts) > 1:
            return found("split")
        if words <= RELATIONS.keys():
            return found("relation")
    sample = distinct[:: max(1, len(distinct) // _SAMPLE)]
    if _share_of(sample, _is_mutation) >= 0.95 and any(map(read_changes, sample)):
        return found("mutations", _share_of(filled, _is_mutation))
    # "7" and "12,5" are numbers, "A40P" is not; a label column with a few numbers stays text.
    if 1 - len(parse_numbers(sample).bad) / len(sample) >= 0.8:
        return found("number", 1 - len(parse_numbers(filled).bad) / len(filled))
    if _holds_smiles(sample, column):
        return found("smiles", _share_of(filled, _is_smiles))
    if _share_of(sample, _is_residues) >= 0.95 and _sequence_like(sample, len(filled)):
        return found(_alphabet_kind(sample), _share_of(filled, _is_residues))
    return found("text")


def profile_table(source: Source) -> dict[str, Profile]:
    return {column: profile_column(source, column) for column in source.columns}


def mostly(source: Source, column: str, kind: str) -> bool:
    """Whether a column of text whose name says `kind` ("residues", "mutations") holds it, but for
    less than half of its cells; peptides may be short."""
    filled = [text for text in source.texts(column) if text.lower() not in MISSING_WORDS]
    fitting = list(filter(_is_residues if kind == "residues" else _is_mutation, filled))
    if not fitting or 2 * len(fitting) < len(filled):
        return False
    if kind == "mutations":
        return any(map(read_changes, fitting))
    distinct = list(dict.fromkeys(fitting))
    return (
        _sequence_like(distinct, len(fitting), _SHORTEST_NAMED)
        and _alphabet_kind(distinct) == "residues"
    )


def _share_of(texts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, texts)) / len(texts)


def _is_mutation(text: str) -> bool:
    return is_wild_type(text) or not isinstance(read_changes(text), str)


def _is_residues(text: str) -> bool:
    return _RESIDUES.fullmatch(text) is not None


def _is_smiles(text: str) -> bool:
    return _SMILES.fullmatch(text) is not None


def _holds_smiles(sample: Sequence[str], column: str) -> bool:
    """A telling name and mostly fitting cells, or nearly all cells with signs of chemistry: "CCO"
    alone could be a peptide, a whole column of molecules never is."""
    fitting = [text for text in sample if _is_smiles(text)]
    if not fitting:
        return False
    share = len(fitting) / len(sample)
    name = plain_name(column)
    if name in SMILES_NAMES and share >= 0.5 and any(map(_CHEMICAL.search, fitting)):
        return "smiles" in name or _share_of(fitting, _chemical) >= 0.5
    if share < 0.95 or all(text == text.upper() and text.isalpha() for text in fitting):
        return False
    bonded = sum(bool(re.search(r"[A-Za-z\])][(=#]|[cnos]\d", text)) for text in fitting)
    return bonded >= 0.5 * len(fitting)


def _chemical(text: str) -> bool:
    return _CHEMICAL.search(text) is not None


def _sequence_like(sample: Sequence[str], filled: int, shortest: int = _SHORTEST) -> bool:
    """Words such as "inactive" are spelt with residue letters too: ask for length or variety."""
    mean_length = sum(map(len, sample)) / len(sample)
    if mean_length >= 20:
        return True
    upper = all(text == text.upper() for text in sample)
    return upper and mean_length >= shortest and len(sample) > min(20, 0.05 * filled)


def _alphabet_kind(sample: Sequence[str]) -> str:
    letters = set("".join(sample).upper()) - set("-.* \t\n\r")
    if letters <= set("ACGTUN"):
        return "nucleotides"
    if letters <= set("HECLGIBSTP"):
        return "structure"
    return "residues"
