"""The applicability domain of molecules: the nearest training molecule, and how near is usual."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from molecule_tables import bbbp, esol
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from moltide.array_file import read_metadata
from moltide.assay_model import Rows, molecule_domain
from moltide.assay_model.domain import Domain, fit_domain, load_domain, save_domain
from moltide.assay_model.molecule_domain import FILE, MoleculeDomain
from moltide.errors import CheckpointError, DataError

ESOL, LOG_S = esol()
OTHERS = bbbp()[0]


def similarities(query, known):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = [[generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in part]
            for part in (query, known)]  # fmt: skip
    return np.array([DataStructs.BulkTanimotoSimilarity(one, bits[1]) for one in bits[0]])


def test_the_nearest_training_molecule_is_named():
    names = [f"{i + 2}" for i in range(150)]
    domain = MoleculeDomain.fit(ESOL[:150], names=names)
    found = domain.score(OTHERS[:40])
    table = similarities(OTHERS[:40], ESOL[:150])
    np.testing.assert_allclose(found.similarity, table.max(axis=1), rtol=1e-6)
    assert found.nearest == [names[i] for i in table.argmax(axis=1)]
    own = domain.score(ESOL[:150])
    np.testing.assert_array_equal(own.similarity, 1)
    assert own.notes == [""] * 150


def test_inside_is_as_near_as_training_molecules_are_to_each_other():
    domain = MoleculeDomain.fit(ESOL)
    table = similarities(ESOL, ESOL)
    np.fill_diagonal(table, -1)
    assert domain.limit == pytest.approx(np.quantile(table.max(axis=1), 0.05), abs=1e-6)
    found = domain.score(OTHERS)
    for one, note in zip(found.similarity, found.notes, strict=True):
        assert (note == "") == (one >= domain.limit)
    outside = next(note for note in found.notes if note)
    assert "like the nearest training molecule" in outside
    assert f"mostly {domain.limit:.2f} or more" in outside
    assert domain.check(OTHERS) == found.notes


def test_equal_molecules_count_once_and_go_by_the_first_name():
    domain = MoleculeDomain.fit(["CCO", "CCN", "CCO"], names=["2", "3", "4"])
    assert len(domain) == 2
    assert domain.score(["CCO", "CCN"]).nearest == ["2", "3"]
    assert MoleculeDomain.fit(["CCO", "CCN"]).score(["NCC"]).nearest == ["1"]


def test_one_training_molecule_leaves_everything_inside():
    domain = MoleculeDomain.fit(["CCO"])
    assert domain.score(["c1ccccc1"]).notes == [""]


def test_more_molecules_than_are_kept_are_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(molecule_domain, "_MOST_KEPT", 50)
    names = [[MoleculeDomain.fit(ESOL, seed).names for seed in (0, 0, 1)]][0]
    assert len(names[0]) == 50
    assert names[0] == names[1] != names[2]
    assert sorted(names[0], key=int) == names[0]


def test_fingerprints_are_kept_in_a_file_of_their_own_and_read_when_needed(tmp_path):
    domain = fit_domain("molecule", Rows(ESOL, LOG_S[:, None], names=["ä"] * 200), 0, 1)
    arrays = save_domain(domain, tmp_path)
    assert sum(array.nbytes for array in arrays.values()) < 100
    size = (tmp_path / FILE).stat().st_size
    assert 256 * 200 < size < 256 * 200 + 10_000
    loaded = load_domain(arrays, tmp_path)
    aside = tmp_path / "aside"
    shutil.move(tmp_path / FILE, aside)
    with pytest.raises(FileNotFoundError):
        loaded.score(OTHERS)
    shutil.move(aside, tmp_path / FILE)
    one, other = domain.score(OTHERS), loaded.score(OTHERS)
    np.testing.assert_array_equal(one.similarity, other.similarity)
    assert one.nearest == other.nearest == ["ä"] * 200
    assert one.notes == other.notes
    # Saved where it was loaded from, and by a pickle, it is the same.
    again = load_domain(arrays, tmp_path)
    save_domain(again, tmp_path)
    assert again.score(OTHERS).nearest == one.nearest
    fresh = load_domain(arrays, tmp_path)
    copy = pickle.loads(pickle.dumps(fresh))
    (tmp_path / FILE).unlink()
    np.testing.assert_array_equal(copy.score(OTHERS).similarity, one.similarity)


def test_a_domain_of_residues_leaves_no_fingerprints_behind(tmp_path):
    save_domain(MoleculeDomain.fit(ESOL[:20]), tmp_path)
    residues = fit_domain("protein", Rows(["MKV", "MKL"], np.zeros((2, 1))), 0, 1)
    assert isinstance(residues, Domain)
    arrays = save_domain(residues, tmp_path)
    assert not (tmp_path / FILE).exists()
    assert isinstance(load_domain(arrays, tmp_path), Domain)
    assert load_domain({}, tmp_path) is None
    assert save_domain(None, tmp_path) == {}
    found = residues.score(["MKV", "AKV"])
    assert found.nearest is None
    assert found.notes == residues.check(["MKV", "AKV"])


def test_a_damaged_file_is_named(tmp_path):
    domain = MoleculeDomain.fit(ESOL[:20])
    arrays = save_domain(domain, tmp_path)
    assert read_metadata(tmp_path / FILE) == {}
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=FILE):
        load_domain(arrays, tmp_path).score(OTHERS)


def test_text_that_is_no_molecule_is_refused():
    with pytest.raises(DataError, match="is no SMILES"):
        MoleculeDomain.fit(["CCO"]).score(["C1CC"])
