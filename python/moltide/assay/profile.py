"""What a column holds, told from its cells: residues, SMILES, mutations, numbers, a split, text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moltide import kinds
from moltide.assay.mutations import is_wild_type, read_changes
from moltide.assay.residues import PROTEIN, RNA
from moltide.assay.source import Source
from moltide.assay.values import MISSING_WORDS, RELATIONS, parse_numbers, relation_word

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
NUCLEOTIDE_NAMES = frozenset([
    "rna", "rnasequence", "rnaseq", "nucleotides", "nucleotidesequence", "mrna", "transcript",
    "utr", "cds", "orf", "dna", "dnasequence", "guide", "grna", "sgrna", "sirna", "aso", "aptamer",
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
_NUCLEOTIDES = re.compile(rf"[{RNA.letters}T{RNA.ambiguous}\s.-]+", re.IGNORECASE)
_SAMPLE = 2000
_INCHI = "InChI="
_SMILES = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$%/\\.:~*<>]+")
# What SMILES have and residues do not: bonds, branches, rings, brackets, aromatic atoms.
_CHEMICAL = re.compile(r"[()=#\[\]0-9]|[cnos]")
# Mean length from which words in upper case pass for residues, by themselves or with a name.
_SHORTEST, _SHORTEST_NAMED = 7, 2


@dataclass(frozen=True)
class Profile:
    """One column: `kind` is what `share` of its `filled` cells (of `rows`) hold."""

    name: str
    # residues smiles inchi nucleotides structure mutations number split relation text empty
    kind: str
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
        # A cell that is none must not turn bounds into exact values: it is refused later.
        known = sum(relation_word(text) in RELATIONS for text in filled)
        if known >= 0.8 * len(filled):
            return found("relation", known / len(filled))
    if sum(text.startswith(_INCHI) for text in filled) >= 0.5 * len(filled):
        return found("inchi", sum(text.startswith(_INCHI) for text in filled) / len(filled))
    sample = distinct[:: max(1, len(distinct) // _SAMPLE)]
    if _share_of(sample, _is_mutation) >= 0.95 and any(map(read_changes, sample)):
        return found("mutations", _share_of(filled, _is_mutation))
    # "7" and "12,5" are numbers, "A40P" is not; a label column with a few numbers stays text.
    if 1 - len(parse_numbers(sample, True).bad) / len(sample) >= 0.8:
        return found("number", 1 - len(parse_numbers(filled, True).bad) / len(filled))
    if _holds_smiles(sample, column):
        return found("smiles", _share_of(filled, _is_smiles))
    if _share_of(sample, _is_residues) >= 0.95 and _sequence_like(sample, len(filled)):
        kind = _alphabet_kind(sample)
        return found(kind, _share_of(filled, _TESTS.get(kind, _is_residues)))
    return found("text")


def profile_table(source: Source) -> dict[str, Profile]:
    return {column: profile_column(source, column) for column in source.columns}


def kind_of_records(records: Mapping[str, str]) -> str:
    """ "rna" where nearly all records of a FASTA file are nucleotides, else "protein"."""
    texts = list(records.values())[:_SAMPLE]
    return kinds.RNA if texts and _share_of(texts, _is_nucleotides) >= 0.95 else kinds.PROTEIN


def mostly(source: Source, column: str, kind: str) -> bool:
    """Whether a column of text whose name says `kind` ("residues", "nucleotides", "mutations",
    "smiles") holds it, but for less than half of its cells; peptides may be short."""
    filled = [text for text in source.texts(column) if text.lower() not in MISSING_WORDS]
    fitting = list(filter(_TESTS[kind], filled))
    if not fitting or 2 * len(fitting) < len(filled):
        return False
    if kind == "mutations":
        return any(map(read_changes, fitting))
    if kind == "smiles":
        return True
    distinct = list(dict.fromkeys(fitting))
    return (
        _sequence_like(distinct, len(fitting), _SHORTEST_NAMED) and _alphabet_kind(distinct) == kind
    )


def _share_of(texts: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, texts)) / len(texts)


def _is_mutation(text: str) -> bool:
    return is_wild_type(text) or not isinstance(read_changes(text), str)


def _is_residues(text: str) -> bool:
    return _RESIDUES.fullmatch(text) is not None


def _is_nucleotides(text: str) -> bool:
    """Nucleotides, but for a few that are not certain; residues are spelt otherwise."""
    if _NUCLEOTIDES.fullmatch(text) is None:
        return False
    letters = [one for one in text.upper() if one.isalpha()]
    return 5 * sum(one in "ACGTUN" for one in letters) >= 4 * len(letters)


def _is_smiles(text: str) -> bool:
    # Brackets and dots alone draw the pairs of an RNA.
    return _SMILES.fullmatch(text) is not None and not set("().[]{}<>").issuperset(text)


_TESTS = {
    "residues": _is_residues, "nucleotides": _is_nucleotides, "mutations": _is_mutation,
    "smiles": _is_smiles,
}  # fmt: skip


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
    if _share_of(sample, _is_nucleotides) >= 0.95:
        return "nucleotides"
    letters = set("".join(sample).upper()) - set("-.* \t\n\r")
    if letters <= set("HECLGIBSTP"):
        return "structure"
    return "residues"
