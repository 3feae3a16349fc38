"""Fingerprints and similarities against RDKit's own."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from molecule_tables import bbbp, esol
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from moltide.chem import fingerprints
from moltide.chem.fingerprints import (
    bit_vectors,
    molecules,
    morgan_bits,
    morgan_counts,
    nearest,
    similarity_blocks,
    tanimoto,
)
from moltide.errors import DataError, MissingDependencyError

SMILES = esol()[0][:60] + bbbp()[0][:40]


def theirs(radius=2, size=2048):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=size)
    return [generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in SMILES], generator


@pytest.mark.parametrize(("radius", "size"), [(2, 2048), (2, 1024), (3, 512)])
def test_counts_and_bits_are_rdkits(radius, size):
    vectors, generator = theirs(radius, size)
    counts = morgan_counts(SMILES, radius, size)
    expected = [generator.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(one)) for one in SMILES]
    np.testing.assert_array_equal(counts.toarray(), expected)
    bits = morgan_bits(SMILES, radius, size)
    assert bits.shape == (len(SMILES), size // 8)
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1, bitorder="little"), vectors)
    assert [one.ToBase64() for one in bit_vectors(bits)] == [one.ToBase64() for one in vectors]


def test_similarities_are_rdkits_in_blocks_of_any_size(monkeypatch):
    vectors, _ = theirs()
    bits = morgan_bits(SMILES)
    expected = np.array([DataStructs.BulkTanimotoSimilarity(one, vectors) for one in vectors])
    whole = tanimoto(bits, bits)
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    monkeypatch.setattr(fingerprints, "_UNPACKED", 7)
    monkeypatch.setattr(fingerprints, "_BLOCK", 300)
    blocks = list(similarity_blocks(bits, bits))
    assert len(blocks) == 34  # three rows of a hundred at a time
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), whole)


def test_the_nearest_is_the_first_of_the_most_similar():
    bits = morgan_bits(SMILES)
    known = np.concatenate([bits[50:], bits[50:]])
    similarity, index = nearest(bits[:50], known)
    table = tanimoto(bits[:50], known)
    np.testing.assert_array_equal(index, table.argmax(axis=1))
    np.testing.assert_array_equal(similarity, table.max(axis=1))
    assert (index < 50).all()
    own = np.arange(len(bits))
    _, other = nearest(bits, bits, leave_out=own)
    assert (other != own).all()
    with pytest.raises(ValueError, match="no molecules"):
        nearest(bits, bits[:0])


def test_stereochemistry_is_no_part_of_a_fingerprint():
    left, right = morgan_bits(["N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"])
    np.testing.assert_array_equal(left, right)


def test_no_molecules_are_no_rows():
    assert morgan_counts([]).shape == (0, 2048)
    assert morgan_bits([]).shape == (0, 256)
    assert tanimoto(morgan_bits([]), morgan_bits(["C"])).shape == (0, 1)


def test_text_that_is_no_molecule_is_named():
    with pytest.raises(DataError, match=r"molecule 1: 'C1CC' is no SMILES that RDKit can read"):
        morgan_bits(["CCO", "C1CC"])


def test_without_rdkit_there_is_one_line(monkeypatch):
    real = builtins.__import__

    def refuse(name, *given, **named):
        if name.split(".")[0] == "rdkit":
            raise ImportError("No module named 'rdkit'")
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"pip install 'moltide\[chem\]'"):
        list(molecules(["C"]))
