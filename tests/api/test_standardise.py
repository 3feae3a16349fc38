"""Standard forms of molecules, and why there is none."""

from __future__ import annotations

import pytest

from moltide.chem.standardise import ChemistryOptions, standardise, standardise_all
from moltide.errors import ConfigError

pytest.importorskip("rdkit")


@pytest.mark.parametrize(
    ("smiles", "standard", "changed"),
    [
        ("OCC", "CCO", ()),
        ("CC(=O)[O-].[Na+]", "CC(=O)O", ("salt", "charge")),
        ("CCN.Cl", "CCN", ("salt",)),
        ("O.O.CCO", "CCO", ("salt",)),
        ("c1ccccc1.CCCCO", None, ("mixture",)),
        ("[NH3+]CC(=O)[O-]", "NCC(=O)O", ("charge",)),
        # A permanent charge and its counterpart within the molecule stay.
        ("C[N+](C)(C)CC([O-])=O", "C[N+](C)(C)CC(=O)[O-]", ()),
        ("[O-][N+](=O)c1ccccc1", "O=[N+]([O-])c1ccccc1", ()),
        ("C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O", ()),
        ("[2H]C([2H])([2H])O", "[2H]C([2H])([2H])O", ()),
        # With protons on the hydrides that bridge boron it would be no molecule.
        (
            "F[B-](F)(F)F.[H][H-][B-]1([H-][H])[n+]2ccccc2-c2cccc[n+]21",
            "[H][H-][B-]1([H-][H])[n+]2ccccc2-c2cccc[n+]21",
            ("salt",),
        ),
    ],
)
def test_standard_forms(smiles: str, standard: str | None, changed: tuple[str, ...]) -> None:
    found = standardise(smiles)
    assert not found.reason
    if standard is not None:
        assert found.smiles == standard
    flags = ("salt", "mixture", "charge", "metal", "stereo", "tautomer")
    assert tuple(name for name in flags if getattr(found, name)) == changed
    # A standard form is its own.
    assert standardise(found.smiles).smiles == found.smiles


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "no SMILES"),
        ("C1CC", "ring 1 is not closed"),
        ("C(C", "parentheses that do not match"),
        ("CC?C", "'?' at position 3"),
        ("CC(C)(C)(C)C", "explicit valence for atom # 1 C, 5"),
        ("Cc1cccc1", "kekulize"),
        ("[Na+].[Cl-]", "no organic part"),
        ("*CC", "dummy atom"),
        ("C" * 5000, "5,000 characters, more than 4,000"),
    ],
)
def test_what_cannot_be_read_has_a_reason(
    smiles: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = standardise(smiles)
    assert not found.smiles
    assert reason in found.reason
    assert not capfd.readouterr().err


def test_a_standard_form_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from rdkit import Chem

    monkeypatch.setattr(Chem, "MolToSmiles", lambda molecule: "C[HH]C")
    found = standardise("CCO")
    assert not found.smiles
    assert found.reason == "its standard form, 'C[HH]C', is no valid molecule"


def test_options_change_what_is_kept() -> None:
    def standard(smiles: str, **options: object) -> str:
        return standardise(smiles, ChemistryOptions(**options)).smiles  # type: ignore[arg-type]

    assert standard("CCN.Cl", salts="keep") == "CCN.Cl"
    assert standard("CC(=O)[O-]", charges="keep") == "CC(=O)[O-]"
    assert standard("C[C@H](N)C(=O)O", stereo="drop") == "CC(N)C(=O)O"
    assert standard("F/C=C/F", stereo="drop") == "FC=CF"
    assert standard("Oc1ccccn1", tautomers=True) == standard("O=c1cccc[nH]1", tautomers=True)
    assert standard("Oc1ccccn1") != standard("O=c1cccc[nH]1")
    with pytest.raises(ConfigError, match="salts is 'remove'"):
        ChemistryOptions(salts="remove")
    with pytest.raises(ConfigError, match="tautomers is 'yes'"):
        ChemistryOptions(tautomers="yes")  # type: ignore[arg-type]


def test_columns_are_the_same_on_any_number_of_processes() -> None:
    texts = [f"{'C' * (1 + i % 40)}O" for i in range(1200)] + ["C1CC", "", "CCN.Cl"] * 3
    seen: list[tuple[int, int]] = []
    alone = standardise_all(texts, workers=1, progress=lambda n, of: seen.append((n, of)))
    shared = standardise_all(texts, workers=2)
    assert alone.molecules == shared.molecules
    assert alone.molecules[:40] == [standardise(text) for text in texts[:40]]
    assert seen[-1][0] == seen[-1][1] == 43
    assert alone.notes() == [
        "molecules with salts, solvents or counter-ions, stripped to the largest organic part: 3"
    ]
