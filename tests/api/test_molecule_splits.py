"""Splits of molecules: scaffolds and clusters never straddle, nor do stereoisomers."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from molecule_tables import bbbp, esol, table_of
from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from moltide.chem.fingerprints import morgan_bits, tanimoto
from moltide.errors import ConfigError, DataError
from moltide.splits import butina, cluster_by_similarity, make_split
from moltide.splits.parts import fill_largest_first
from moltide.splits.skeletons import skeletons

ESOL, LOG_S = esol()
PARTS = ("train", "valid", "test")
# Rings, linkers and chains, from which molecules with shared scaffolds are made.
RINGS = ("c1ccccc1", "C1CCNCC1", "c1ccncc1", "c1ccc2ccccc2c1", "C1CCCC1", "c1ccsc1")
CHAINS = ("", "C", "CC", "O", "OCC", "N", "OC(=O)", "FC", "ClC", "N#C")


def made(n: int) -> list[str]:
    """n molecules of few scaffolds, some without a ring."""
    found = [f"{a}{ring}" for ring, a in itertools.product(RINGS, CHAINS)]
    found += [f"{a}{'C' * k}{b}" for a, b, k in itertools.product("NOS", "NO", range(1, 9))]
    return list(dict.fromkeys(Chem.CanonSmiles(one) for one in found))[:n]


def scaffolds_of(smiles: list[str]) -> list[str]:
    return [
        MurckoScaffold.MurckoScaffoldSmiles(mol=Chem.MolFromSmiles(one), includeChirality=False)
        for one in smiles
    ]


def moleculenet(smiles: list[str], shares: tuple[float, float, float]) -> np.ndarray:
    """The published convention, written down from its description for one molecule at a time."""
    groups: dict[str, list[int]] = {}
    for i, scaffold in enumerate(scaffolds_of(smiles)):
        groups.setdefault(scaffold, []).append(i)
    ordered = sorted(groups.values(), key=lambda one: (len(one), one[0]), reverse=True)
    n, labels, counts = len(smiles), np.full(len(smiles), "test", "<U5"), {"train": 0, "valid": 0}
    for group in ordered:
        if counts["train"] + len(group) <= shares[0] * n:
            part = "train"
        elif counts["train"] + counts["valid"] + len(group) <= (shares[0] + shares[1]) * n:
            part = "valid"
        else:
            continue
        counts[part] += len(group)
        labels[group] = part
    return labels


def check_apart(labels: np.ndarray, groups: list[str]) -> None:
    for one in set(groups):
        assert len({part for part, own in zip(labels, groups, strict=True) if own == one}) == 1


# ---- what molecules have in common ----------------------------------------------------------


def test_scaffolds_and_flat_forms():
    forms = skeletons(
        ["C[C@H](O)c1ccccc1", "C[C@@H](O)c1ccccc1", "[2H]C([2H])([2H])C(O)c1ccccc1", "CCO",
         "F/C=C/F", "F/C=C\\F", "[13CH3]CO"]
    )  # fmt: skip
    assert forms.scaffolds == ["c1ccccc1"] * 3 + [""] * 4
    assert forms.twins.tolist() == [0, 0, 0, 1, 2, 2, 1]
    assert forms.flat[0] == "CC(O)c1ccccc1"


def test_scaffolds_are_rdkits():
    assert skeletons(ESOL).scaffolds == scaffolds_of(ESOL)


# ---- the default ----------------------------------------------------------------------------


def test_molecules_are_split_by_scaffold():
    split = make_split(table_of(ESOL, LOG_S))
    assert split.method == "scaffold"
    assert "MoleculeNet" in split.reason
    np.testing.assert_array_equal(split.labels, moleculenet(ESOL, (0.8, 0.1, 0.1)))
    assert any("without a ring count as one" in note for note in split.notes)
    assert split.groups is not None


def test_the_seed_changes_nothing_of_the_published_convention():
    table = table_of(ESOL, LOG_S)
    one, other = make_split(table, "scaffold", 0), make_split(table, "scaffold", 1)
    np.testing.assert_array_equal(one.labels, other.labels)
    drawn = [make_split(table, "scaffold_balanced", seed).labels for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_scaffold_split_that_lacks_a_class_gives_way_to_one_that_has_it():
    smiles = made(100)
    forms = skeletons(smiles)
    common = max(set(forms.scaffolds), key=forms.scaffolds.count)
    y = np.array([one == common or i % 40 == 0 for i, one in enumerate(forms.scaffolds)], float)
    labels = moleculenet(smiles, (0.8, 0.1, 0.1))
    y[labels != "train"] = 0
    split = make_split(table_of(smiles, y, "classification"))
    assert split.method != "scaffold"
    assert any("not possible by scaffold: a part would lack a class" in one for one in split.notes)
    # Asked for by name, it is made, and says so.
    named = make_split(table_of(smiles, y, "classification"), "scaffold")
    assert "test holds a single class" in named.notes


def test_one_scaffold_for_all_is_split_by_similarity_or_at_random():
    smiles = [f"c1ccccc1{'C' * k}{end}" for k in range(15) for end in ("O", "N", "F", "Cl")]
    with pytest.raises(DataError, match="no split by scaffold: scaffolds: 1, the largest with 60"):
        make_split(table_of(smiles, np.arange(60.0)), "scaffold")
    split = make_split(table_of(smiles, np.arange(60.0)))
    assert split.method in ("butina", "random")
    assert any("not possible by scaffold" in note for note in split.notes)


def test_the_split_says_how_near_training_is():
    split = make_split(table_of(ESOL, LOG_S), "random")
    index = {part: split.index(part) for part in PARTS}
    bits = morgan_bits(ESOL)
    expected = np.quantile(tanimoto(bits[index["test"]], bits[index["train"]]).max(axis=1), 0.5)
    facts = split.to_dict()
    assert facts["nearest_train_similarity"]["median"] == pytest.approx(expected, abs=1e-4)
    scaffolds = scaffolds_of(ESOL)
    for part in PARTS:
        assert facts["scaffolds"][part] == len({scaffolds[i] for i in index[part]})
    seen = {scaffolds[i] for i in index["train"]}
    share = np.mean([scaffolds[i] in seen for i in index["test"]])
    assert facts["test_scaffolds_seen"] == pytest.approx(share, abs=1e-4)
    assert f"Tanimoto {expected:.2f} in the median" in "\n".join(split.lines())
    harder = make_split(table_of(ESOL, LOG_S), "scaffold").to_dict()
    assert harder["nearest_train_similarity"]["median"] < expected
    assert harder["test_scaffolds_seen"] == 0


# ---- guarantees -----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    chosen=st.lists(st.integers(0, 99), min_size=40, max_size=99, unique=True),
    seed=st.integers(0, 1000),
)
def test_no_scaffold_is_in_two_parts(chosen, seed):
    smiles = [made(100)[i] for i in chosen]
    for method in ("scaffold", "scaffold_balanced"):
        split = None
        table = table_of(smiles, np.arange(float(len(smiles))))
        with contextlib.suppress(DataError):  # one scaffold may be most of the table
            split = make_split(table, method, seed)
        if split is None:
            continue
        assert set(split.labels) == set(PARTS)
        ringed = [(p, s) for p, s in zip(split.labels, scaffolds_of(smiles), strict=True) if s]
        check_apart(np.array([p for p, _ in ringed]), [s for _, s in ringed])
        if method == "scaffold":
            shares = (0.6, 0.2, 0.2) if len(smiles) < 100 else (0.8, 0.1, 0.1)
            np.testing.assert_array_equal(split.labels, moleculenet(smiles, shares))


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=3, max_size=30), seed=st.integers(0, 99))
def test_the_largest_groups_train(sizes, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = fill_largest_first(groups, (0.8, 0.1, 0.1))
    n = len(groups)
    assert (labels == "train").sum() <= 0.8 * n
    for group in range(len(sizes)):
        assert len(set(labels[groups == group])) == 1
    left = min((s for g, s in enumerate(sizes) if labels[groups == g][0] != "train"), default=0)
    if left:  # no group that fits into train was left out while a larger one came in before it
        assert (labels == "train").sum() + left > 0.8 * n


ISOMERS = [
    one
    for k in range(1, 16)
    for one in (f"C[C@H](O){'C' * k}Br", f"C[C@@H](O){'C' * k}Br", f"F/C=C/{'C' * k}N",
                f"F/C=C\\{'C' * k}N", f"[13CH3]{'C' * k}S", f"C{'C' * k}S")
]  # fmt: skip


@pytest.mark.parametrize("method", ["random", "time", "scaffold_balanced", "butina"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stereoisomers_never_straddle(method, seed):
    smiles = [*ISOMERS, *made(30)]
    rng = np.random.default_rng(seed)
    table = table_of(smiles, np.arange(float(len(smiles))), time=rng.permutation(len(smiles)) * 1.0)
    split = make_split(table, method, seed)
    check_apart(split.labels, skeletons(smiles).flat)
    assert split.to_dict()["test_twins_in_train"] == 0


def test_a_column_that_divides_stereoisomers_is_kept_and_said_to():
    smiles = made(60)
    split_column = np.array(["train"] * 40 + ["valid"] * 10 + ["test"] * 10)
    smiles[0], smiles[55] = "C[C@H](O)CBr", "C[C@@H](O)CBr"
    table = table_of(smiles, np.arange(60.0), split=split_column, split_name="part",
                     split_columns={"part": split_column})  # fmt: skip
    split = make_split(table)
    np.testing.assert_array_equal(split.labels, split_column)
    assert any("in stereochemistry or isotopes alone: 1" in note for note in split.notes)


def test_time_is_that_of_the_earliest_stereoisomer():
    smiles = [*ISOMERS[:2], *made(58)]
    times = np.arange(60.0)
    times[1], times[0] = 0.0, 59.0
    times[5] = np.nan
    split = make_split(table_of(smiles, times, time=times), "time")
    assert split.labels[:2].tolist() == ["train", "train"]
    assert split.labels[5] == ""


def test_classes_keep_their_shares_in_a_random_split():
    smiles, y = bbbp()
    split = make_split(table_of(smiles, y, "classification"), "random")
    for part in PARTS:
        assert y[split.index(part)].mean() == pytest.approx(y.mean(), abs=0.06)


# ---- clusters -------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [20_000, 0], ids=["Taylor-Butina", "sphere exclusion"])
@pytest.mark.parametrize("similarity", [0.3, 0.5, 1.0])
def test_every_member_is_like_a_centre(monkeypatch, most, similarity):
    monkeypatch.setattr(butina, "EVERY_PAIR", most)
    flat = list(dict.fromkeys(skeletons(ESOL).flat))
    clusters, how = cluster_by_similarity(flat, similarity)
    assert how == ("sphere exclusion" if most == 0 else "Taylor-Butina")
    table = tanimoto(morgan_bits(flat), morgan_bits(flat))
    for cluster in range(clusters.max() + 1):
        own = np.flatnonzero(clusters == cluster)
        assert table[np.ix_(own, own)].min(axis=1).max() >= similarity - 1e-6


def test_butina_is_taylors_algorithm():
    flat = sorted(set(skeletons(ESOL).flat))
    near = tanimoto(morgan_bits(flat), morgan_bits(flat)) >= np.float32(0.4)
    left = list(np.argsort(-near.sum(axis=1), kind="stable"))
    expected = np.full(len(flat), -1)
    for one in list(left):
        if expected[one] < 0:
            expected[near[one] & (expected < 0)] = one
    found, _ = cluster_by_similarity(flat, 0.4)
    numbers = {}
    for a, b in zip(found.tolist(), expected.tolist(), strict=True):
        assert numbers.setdefault(a, b) == b
    assert len(numbers) == len(set(expected.tolist()))


@pytest.mark.parametrize("most", [20_000, 0])
def test_the_order_of_molecules_does_not_matter(monkeypatch, most):
    monkeypatch.setattr(butina, "EVERY_PAIR", most)
    order = np.random.default_rng(0).permutation(len(ESOL))
    one, _ = cluster_by_similarity(ESOL)
    other, _ = cluster_by_similarity([ESOL[i] for i in order])
    pairs = set(zip(one[order].tolist(), other.tolist(), strict=True))
    assert len(pairs) == one.max() + 1 == other.max() + 1
    assert other[0] == 0


def test_clusters_do_not_straddle():
    split = make_split(table_of(ESOL, LOG_S), "butina", similarity=0.5)
    clusters, _ = cluster_by_similarity(skeletons(ESOL).flat, 0.5)
    check_apart(split.labels, clusters.tolist())
    assert "Taylor-Butina clusters at Tanimoto 0.5" in split.notes[0]


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cluster", "position", "mutations"])
def test_methods_of_residues_do_not_split_molecules(method):
    with pytest.raises(DataError, match=f"no split by {method}.*'molecule'.*scaffold, scaffold_b"):
        make_split(table_of(ESOL, LOG_S), method)


@pytest.mark.parametrize("kind", ["protein", "rna"])
@pytest.mark.parametrize("method", ["scaffold", "butina"])
def test_methods_of_molecules_do_not_split_residues(kind, method):
    table = table_of([f"ACGU{'A' * k}" for k in range(20)], np.arange(20.0), kind=kind)
    with pytest.raises(DataError, match=f"no split by {method}.*{kind!r}.*random, cluster"):
        make_split(table, method)


@pytest.mark.parametrize("similarity", [0.0, 1.5])
def test_an_impossible_similarity(similarity):
    with pytest.raises(ConfigError, match="similarity="):
        make_split(table_of(ESOL, LOG_S), "butina", similarity=similarity)


def test_unrelated_rna_stays_apart(rng):
    roots = ["".join(rng.choice(list("ACGU"), 80)) for _ in range(12)]
    sequences = []
    for root in roots:
        for _ in range(5):
            text = list(root)
            for place in rng.choice(80, 3, replace=False):
                text[place] = "ACGU"[rng.integers(4)]
            sequences.append("".join(text))
    table = table_of(sequences, np.arange(60.0), kind="rna")
    split = make_split(table, "cluster")
    assert split.groups is not None
    assert split.groups.max() == 11
    assert "clusters at 80% identity" in split.notes[0]
    check_apart(split.labels, [str(i // 5) for i in range(60)])
