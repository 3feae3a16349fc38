"""Conformers of molecules, and the tokens of their atoms."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

from moltide.conformers import (
    EMBEDDED,
    FLAT,
    GIVEN,
    ConformerCache,
    conformer,
    conformers,
    coordinates_of,
    placed,
)
from moltide.errors import ConfigError, DataError
from moltide.tokenization.atoms import AtomTokenizer

SMILES = ["CCO", "c1ccccc1O", "[Na+].[Cl-]", "C", "CC(=O)Nc1ccc(O)cc1"]
WATER = """water
  by hand  3D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1174 O   0  0
    0.0000    0.7572   -0.4696 H   0  0
    0.0000   -0.7572   -0.4696 H   0  0
  1  2  1  0
  1  3  1  0
M  END
"""


def bond_lengths(smiles):
    """Distances of bonded atoms, hydrogens included."""
    found = conformer(smiles)
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
    return [float(np.linalg.norm(found.coordinates[i] - found.coordinates[j])) for i, j in pairs]


def test_conformers_are_molecules_in_space():
    found = conformer("CC(=O)Nc1ccc(O)cc1")
    assert found.how == EMBEDDED
    assert found.note == ""
    assert found.symbols.count("H") == 9
    assert found.coordinates.dtype == np.float32
    assert np.ptp(found.coordinates, axis=0).min() > 0.5
    assert all(0.9 < length < 1.6 for length in bond_lengths("CC(=O)Nc1ccc(O)cc1"))


def test_the_same_each_time_and_on_any_number_of_threads():
    together = conformers(SMILES * 2)
    for smiles, one, again in zip(SMILES, together, together[len(SMILES) :], strict=False):
        alone = conformer(smiles)
        assert alone.symbols == one.symbols == again.symbols
        np.testing.assert_array_equal(alone.coordinates, one.coordinates)
        np.testing.assert_array_equal(alone.coordinates, again.coordinates)
    other = conformer(SMILES[4], seed=7)
    assert np.abs(other.coordinates - together[4].coordinates).max() > 0.1


def test_hydrogens_leave_without_moving_the_rest():
    found = conformer("CCO")
    heavy = found.without_hydrogens()
    assert heavy.symbols == ("C", "C", "O")
    np.testing.assert_array_equal(heavy.coordinates, found.coordinates[:3])
    assert conformer("[H][H]").without_hydrogens().symbols == ("H", "H")


def test_given_conformers_are_used_as_they_are():
    found = conformer(WATER)
    assert (found.how, found.symbols) == (GIVEN, ("O", "H", "H"))
    np.testing.assert_allclose(found.coordinates[1], [0, 0.7572, -0.4696], atol=1e-6)
    mol = Chem.MolFromMolBlock(WATER, removeHs=False)
    np.testing.assert_array_equal(conformer(mol).coordinates, found.coordinates)


def test_a_drawing_is_no_conformer():
    mol = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(mol)
    for molecule in (mol, Chem.MolToMolBlock(mol)):
        found = conformer(molecule)
        assert found.how == EMBEDDED
        np.testing.assert_array_equal(found.coordinates, conformer("CCO").coordinates)


def test_flat_where_nothing_can_be_embedded(monkeypatch):
    attempts = []

    def fails(mol, maxAttempts=0, randomSeed=-1):
        attempts.append((maxAttempts, randomSeed))
        return -1

    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", fails)
    found = conformer("CCO")
    assert found.how == FLAT
    assert found.note == "RDKit found no conformer that fits its distances"
    assert (found.coordinates[:, 2] == 0).all()
    conformer("CCO", effort="heavy")
    assert attempts == [(0, 42), (0, 42), (5000, 42)]


def test_unrelaxed_where_the_force_field_cannot(monkeypatch):
    monkeypatch.setattr(rdForceFieldHelpers, "MMFFOptimizeMolecule", lambda mol: -1)
    found = conformer("CCO")
    assert found.how == EMBEDDED
    assert found.note == "MMFF94 has no parameters for it: not relaxed"


@pytest.mark.parametrize(
    ("molecule", "reason"),
    [
        ("CC(", r"'CC\(' is no SMILES that RDKit can read"),
        ("CN(C)(C)(C)C", "Explicit valence for atom # 1 N, 5, is greater than permitted"),
        ("c1cccc1", "Can't kekulize mol"),
        ("", "it has no atoms"),
        ("title\nno block\n", "the mol block 'title' cannot be read by RDKit"),
        ("C" * 200, "it has 602 atoms, hydrogens included; at most 510 are allowed"),
        (3.5, "expected SMILES, a mol block or an RDKit molecule, got 3.5"),
    ],
)
def test_reasons(molecule, reason):
    with pytest.raises(DataError, match=reason):
        conformer(molecule)
    found = conformers(["C", molecule])
    assert isinstance(found[1], DataError)


def test_another_effort_is_refused():
    with pytest.raises(ConfigError, match="effort is 'more'; allowed: 'fast', 'heavy'"):
        conformer("C", effort="more")


def test_remembered_by_text(monkeypatch):
    made = []
    original = rdDistGeom.EmbedMolecule

    def counted(mol, **options):
        made.append(mol)
        return original(mol, **options)

    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", counted)
    cache = ConformerCache(size=2)
    first = cache.get(["CC", "CCO", "CC"])
    assert len(made) == 2
    assert cache.get(["CCO"])[0] is first[1]
    assert len(made) == 2
    cache.get(["CCC"])
    assert len(cache) == 2
    cache.get(["CC"])  # the oldest was dropped
    assert len(made) == 4
    assert len(pickle.loads(pickle.dumps(cache))) == 0


def test_progress_is_told():
    told = []
    conformers(["C", "CC"], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_placed_tokens():
    tokens = placed(np.arange(3), np.ones((3, 3)))
    assert tokens.dtype == np.int32
    assert coordinates_of(tokens).dtype == np.float32
    # What is made of them has lost its place.
    assert coordinates_of(tokens[:2]) is None
    assert coordinates_of(tokens + 1) is None
    assert coordinates_of(np.arange(3)) is None
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 3 tokens"):
        placed(np.arange(3), np.ones((2, 3)))


# ---- tokens ----------------------------------------------------------------------------------


def test_atoms_framed_and_centred():
    tokenizer = AtomTokenizer()
    tokens, cu = tokenizer.encode(["CCO", "O"])
    assert cu.tolist() == [0, 11, 16]
    assert tokens.tolist() == [1, 4, 4, 6, *[8] * 6, 2, 1, 6, 8, 8, 2]
    places = coordinates_of(tokens)
    for begin, end in ((0, 11), (11, 16)):
        assert (places[[begin, end - 1]] == 0).all()
        np.testing.assert_allclose(places[begin + 1 : end - 1].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(
        places[1:10] - places[1], conformer("CCO").coordinates - conformer("CCO").coordinates[0],
        atol=1e-6,
    )  # fmt: skip
    bare, cu = AtomTokenizer(remove_hydrogens=True).encode(["CCO"])
    assert bare.tolist() == [1, 4, 4, 6, 2]
    np.testing.assert_allclose(coordinates_of(bare)[1:4].mean(axis=0), 0, atol=1e-6)


def test_elements_outside_the_vocabulary_and_flat_molecules_are_told(monkeypatch):
    tokenizer = AtomTokenizer()
    strange = r"1 molecule of 2 not .* \(molecule 1 '\[U\]': U outside the vocabulary, .*\[UNK\]"
    with pytest.warns(UserWarning, match=strange):
        tokens, _ = tokenizer.encode(["C", "[U]"])
    assert tokens[-2] == tokenizer.unk_id
    monkeypatch.setattr(rdDistGeom, "EmbedMolecule", lambda mol, **options: -1)
    with pytest.warns(UserWarning, match=r"\(molecule 8 'CCCO': laid out flat.* no conformer"):
        tokenizer.encode(["C", "CCCO"], first_index=7)
    with warnings.catch_warnings():  # once each
        warnings.simplefilter("error")
        tokenizer.encode(["CCCO", "[U]"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer.encode(["C", "CCCO", "[U]"], "unknown")
        AtomTokenizer().encode(["CCCCO", "[Pu]"], "unknown")


def test_remarks(monkeypatch):
    tokenizer = AtomTokenizer()
    found = tokenizer.remarks(["CCO", "[U]", "C("])
    assert [(one.index, one.unreadable) for one in found] == [(1, False), (1, False), (2, True)]
    assert found[0].text.startswith("U outside the vocabulary, read as [UNK]")
    assert found[1].text == "MMFF94 has no parameters for it: not relaxed"
    assert "is no SMILES" in found[2].text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer.encode(["[U]"])


def test_errors_name_the_molecule():
    tokenizer = AtomTokenizer()
    with pytest.raises(DataError, match=r"molecule 12: 'C\(' is no SMILES"):
        tokenizer.encode(["C", "CC", "C("], first_index=10)
    with pytest.raises(ConfigError, match="on_illegal is 'skip'"):
        tokenizer.encode(["C"], "skip")


def test_no_molecules():
    tokens, cu = AtomTokenizer().encode([])
    assert coordinates_of(tokens).shape == (0, 3)
    assert cu.tolist() == [0]


def test_tokenizers_compare_and_pickle():
    tokenizer = AtomTokenizer(seed=3)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again == tokenizer
    assert tokenizer != AtomTokenizer(seed=4)
    a, b = (coordinates_of(t.encode(["CCO"])[0]) for t in (tokenizer, again))
    np.testing.assert_array_equal(a, b)
