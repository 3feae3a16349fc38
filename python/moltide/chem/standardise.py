"""Molecules in one agreed form: canonical SMILES of the parent, or the reason why there is none.

The steps are those of RDKit's MolStandardize: sanitise, disconnect metals, keep the largest organic
fragment, neutralise charges; and, only on request, drop stereo or choose a canonical tautomer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from typing import Any

from moltide.chem.fingerprints import require_rdkit
from moltide.chem.parts import in_parts
from moltide.errors import ConfigError
from moltide.options import check_choice

SALTS = ("strip", "keep")
CHARGES = ("neutralise", "keep")
STEREO = ("keep", "drop")
# Longer texts are no molecules that a SMILES model could read.
LONGEST = 4000
# A dummy atom, or a bracket atom that is none of the elements of `_NOT_METALS`.
_UNUSUAL = re.compile(
    r"\*|\[\d*(?!(?:H|He|B|C|N|O|F|Ne|Si|P|S|Cl|Ar|As|Se|Br|Kr|Te|I|Xe|b|c|n|o|p|s|si|as|se|te)"
    r"(?![a-z]))"
)
# What every InChI begins with.
INCHI = "InChI="
_RDKIT_NOISE = re.compile(r"^\[[\d:]+\]\s*")


@dataclass(frozen=True)
class ChemistryOptions:
    """What is done to a molecule.

    Attributes:
        salts: "strip" keeps the largest organic fragment; "keep" leaves mixtures as they are.
        charges: "neutralise" adds and removes protons; permanent charges and zwitterions that
            cancel out within the molecule stay.
        stereo: "drop" removes stereo centres and double-bond geometry.
        tautomers: True: RDKit's canonical tautomer (slow, and it may move stereo centres).

    Raises:
        ConfigError: another value.
    """

    salts: str = "strip"
    charges: str = "neutralise"
    stereo: str = "keep"
    tautomers: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("salts", SALTS), ("charges", CHARGES), ("stereo", STEREO)):
            check_choice(name, getattr(self, name), allowed)
        if not isinstance(self.tautomers, bool):
            raise ConfigError(f"tautomers is {self.tautomers!r}; allowed: True, False")


@dataclass(frozen=True)
class Standardised:
    """One molecule: `smiles`, "" with a `reason`. The flags say what was changed in it."""

    smiles: str = ""
    reason: str = ""
    salt: bool = False
    mixture: bool = False
    charge: bool = False
    metal: bool = False
    stereo: bool = False
    tautomer: bool = False


# Flag -> what was done, for people.
CHANGES = {
    "salt": "with salts, solvents or counter-ions, stripped to the largest organic part",
    "mixture": "of several organic parts, of which the largest was kept",
    "metal": "with bonds to metals, disconnected",
    "charge": "with charges, neutralised",
    "stereo": "with stereo, dropped",
    "tautomer": "turned into their canonical tautomer",
}


@dataclass
class StandardisedColumn:
    """Results parallel to the input."""

    molecules: list[Standardised] = field(default_factory=list)

    def notes(self) -> list[str]:
        """One sentence for each kind of change."""
        counts = {name: sum(getattr(one, name) for one in self.molecules) for name in CHANGES}
        return [f"molecules {CHANGES[name]}: {count:,}" for name, count in counts.items() if count]


def standardise(smiles: str, options: ChemistryOptions | None = None) -> Standardised:
    """The standard form of one SMILES string; what cannot be read has a reason, in RDKit's words.

    Raises:
        MissingDependencyError: without RDKit.
    """
    require_rdkit()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        return _standardise(smiles.strip(), options or ChemistryOptions())


def standardise_all(
    smiles: Sequence[str],
    options: ChemistryOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> StandardisedColumn:
    """`standardise` of every text, each distinct one once; large columns on several processes.

    Args:
        progress: called with (molecules done, all of them).
        workers: processes (None: one a core from 4,000 molecules on); the result is the same.
    """
    require_rdkit()
    options = options or ChemistryOptions()
    distinct = list(dict.fromkeys(text.strip() for text in smiles))
    found: dict[str, Standardised] = {}
    for done in in_parts(partial(_part, options=options), distinct, workers):
        found.update(done)
        if progress is not None:
            progress(len(found), len(distinct))
    return StandardisedColumn([found[text.strip()] for text in smiles])


def _part(texts: Sequence[str], options: ChemistryOptions) -> dict[str, Standardised]:
    from rdkit import rdBase

    with rdBase.BlockLogs():
        return {text: _standardise(text, options) for text in texts}


@lru_cache(maxsize=1)
def _tools() -> Any:
    from rdkit.Chem.MolStandardize import rdMolStandardize

    chooser = rdMolStandardize.LargestFragmentChooser(True)
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetMaxTransforms(200)
    enumerator.SetMaxTautomers(200)
    return rdMolStandardize.MetalDisconnector(), chooser, rdMolStandardize.Uncharger(), enumerator


def _standardise(text: str, options: ChemistryOptions) -> Standardised:
    from rdkit import Chem

    if not text:
        return Standardised(reason="no SMILES")
    if len(text) > LONGEST:
        return Standardised(reason=f"{len(text):,} characters, more than {LONGEST:,}")
    inchi = text.startswith(INCHI)
    molecule: Any = Chem.MolFromSmiles(text) if not inchi else _from_inchi(text)
    if molecule is None:
        return Standardised(reason=why_unreadable(text))
    if molecule.GetNumAtoms() == 0:
        return Standardised(reason="no atom")
    # Walking over atoms takes as long as reading them: most texts tell without.
    unusual = inchi or _UNUSUAL.search(text) is not None
    if unusual and any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        return Standardised(reason="a dummy atom (*) stands in it")
    done: dict[str, Any] = {}
    disconnect, chooser, uncharger, enumerator = _tools()
    plain = not inchi and "." not in text and not re.search(r"[+-]\d*\]|[A-Z][a-z]?\d*[+-]", text)
    if not plain or (unusual and _has_metal(molecule)):
        molecule = _parent(molecule, options, done, disconnect, chooser, uncharger)
        if molecule is None or not any(a.GetAtomicNum() == 6 for a in molecule.GetAtoms()):
            return Standardised(reason="no organic part")
    if options.tautomers:
        before = Chem.MolToSmiles(molecule)
        molecule = enumerator.Canonicalize(molecule)
        done["tautomer"] = Chem.MolToSmiles(molecule) != before
    if options.stereo == "drop":
        before = Chem.MolToSmiles(molecule)
        Chem.RemoveStereochemistry(molecule)
        done["stereo"] = Chem.MolToSmiles(molecule) != before
    smiles = Chem.MolToSmiles(molecule)
    if Chem.MolFromSmiles(smiles) is None:
        return Standardised(reason=f"its standard form, {_shown(smiles)}, is no valid molecule")
    return Standardised(smiles, **done)


def _from_inchi(text: str) -> Any:
    from rdkit import Chem

    read: Any = Chem.MolFromInchi
    return read(text, logLevel=None)


def _parent(
    molecule: Any,
    options: ChemistryOptions,
    done: dict[str, Any],
    disconnect: Any,
    chooser: Any,
    uncharger: Any,
) -> Any:
    from rdkit import Chem

    before = Chem.MolToSmiles(molecule)
    if _has_metal(molecule):
        molecule = disconnect.Disconnect(molecule)
        done["metal"] = Chem.MolToSmiles(molecule) != before
    if options.salts == "strip":
        parts = Chem.GetMolFrags(molecule, asMols=True)
        if len(parts) > 1:
            organic = [part for part in parts if _carbons(part) > 2]
            kinds = {Chem.MolToSmiles(part) for part in organic}
            done["mixture" if len(kinds) > 1 else "salt"] = True
            molecule = chooser.choose(molecule)
    if options.charges == "neutralise":
        before = Chem.MolToSmiles(molecule)
        neutral = uncharger.uncharge(molecule)
        after = Chem.MolToSmiles(neutral)
        # Protons put on a hydride that bridges two boron atoms leave no molecule.
        if after != before and Chem.MolFromSmiles(after) is not None:
            molecule, done["charge"] = neutral, True
    return molecule


def _carbons(molecule: Any) -> int:
    return sum(atom.GetAtomicNum() == 6 for atom in molecule.GetAtoms())


# Of the elements that chemists draw in covalent molecules, none of these.
_NOT_METALS = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54))


def _has_metal(molecule: Any) -> bool:
    return any(atom.GetAtomicNum() not in _NOT_METALS for atom in molecule.GetAtoms())


def why_unreadable(text: str) -> str:
    """What is wrong with a SMILES string or InChI that RDKit refuses."""
    from rdkit import Chem

    if text.startswith(INCHI):
        return f"{_shown(text)} is no InChI that RDKit can read"
    molecule = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return f"{_shown(text)} is no SMILES{_syntax(text)}"
    problems = Chem.DetectChemistryProblems(molecule)
    if problems:
        return f"{_shown(text)}: {plain_reason(problems[0].Message())}"
    return f"{_shown(text)} cannot be sanitised"


def plain_reason(message: str) -> str:
    """RDKit's message as part of a sentence."""
    said = _RDKIT_NOISE.sub("", message).strip().rstrip(".")
    return f"{said[:1].lower()}{said[1:]}"


def _syntax(text: str) -> str:
    """The place of the first thing that no SMILES holds, as far as it can be told."""
    strange = re.search(r"[^A-Za-z0-9@+\-\[\]()=#$%/\\.:~*<>]", text)
    if strange:
        return f" ({strange[0]!r} at position {strange.start() + 1})"
    for opening, closing, name in (("(", ")", "parentheses"), ("[", "]", "brackets")):
        if text.count(opening) != text.count(closing):
            return f" ({name} that do not match)"
    bare = re.sub(r"\[[^\]]*\]", "", text)
    rings = re.findall(r"%\d\d|\d", bare)
    odd = [ring for ring in dict.fromkeys(rings) if rings.count(ring) % 2]
    return f" (ring {odd[0]} is not closed)" if odd else ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def options_of(values: dict[str, Any]) -> ChemistryOptions:
    """Chemistry options among others, by name; what is not there has its default."""
    names = {one.name for one in fields(ChemistryOptions)}
    return ChemistryOptions(**{n: v for n, v in values.items() if n in names and v is not None})
