"""Clustering by identity, against its definition and a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
from assay_tables import RESIDUES
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.errors import ConfigError
from moltide.splits import cluster_by_identity


def identity(a: str, b: str) -> float:
    """1 - edit distance / longer length, by the textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return 1 - row[-1] / max(len(a), len(b))


def relatives(
    rng: np.random.Generator, parents: int, children: int, length: int, changes: int
) -> tuple[list[str], list[int]]:
    sequences, family = [], []
    for parent in range(parents):
        root = rng.choice(list(RESIDUES), length)
        for _ in range(children):
            child = root.tolist()
            for _ in range(changes):
                child[rng.integers(len(child))] = str(rng.choice(list(RESIDUES)))
            if rng.random() < 0.5:
                cut = rng.integers(len(child))
                child[cut:cut] = rng.choice(list(RESIDUES), 2).tolist()
            sequences.append("".join(child))
            family.append(parent)
    return sequences, family


@pytest.mark.parametrize(("length", "changes"), [(50, 8), (120, 25), (300, 60)])
def test_families_are_recovered(length: int, changes: int) -> None:
    rng = np.random.default_rng(length)
    sequences, family = relatives(rng, 12, 8, length, changes)
    order = rng.permutation(len(sequences))
    found = cluster_by_identity([sequences[i] for i in order], 0.5)
    pairs = {(int(cluster), family[i]) for cluster, i in zip(found, order, strict=True)}
    assert len(pairs) == 12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.9]))
def test_every_member_is_close_to_the_longest_of_its_cluster(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    sequences, _ = relatives(rng, 5, 6, 60, int(rng.integers(1, 30)))
    found = cluster_by_identity(sequences, threshold)
    for cluster in np.unique(found):
        members = [s for s, c in zip(sequences, found, strict=True) if c == cluster]
        # The representative is among the longest; some member must be close to all others.
        best = max(
            min(identity(a, b) for b in members)
            for a in members
            if len(a) == max(map(len, members))
        )
        assert best >= threshold


def test_unrelated_sequences_stay_apart_and_equal_ones_together() -> None:
    rng = np.random.default_rng(0)
    unrelated = ["".join(rng.choice(list(RESIDUES), 80)) for _ in range(60)]
    found = cluster_by_identity([*unrelated, *unrelated[::-1]])
    assert found[:60].tolist() == list(range(60))
    assert found[60:].tolist() == list(range(60))[::-1]


def test_the_order_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    sequences, _ = relatives(rng, 10, 10, 90, 40)
    first = cluster_by_identity(sequences, 0.6)
    order = rng.permutation(len(sequences))
    second = cluster_by_identity([sequences[i] for i in order], 0.6)
    together = first[:, None] == first[None, :]
    shuffled = second[:, None] == second[None, :]
    np.testing.assert_array_equal(together[np.ix_(order, order)], shuffled)


def test_edges() -> None:
    assert cluster_by_identity([]).tolist() == []
    assert cluster_by_identity(["MK", "MK", "A"]).tolist() == [0, 0, 1]
    assert cluster_by_identity(["M", "MKT", "MKTAYIAK", "MKTAYIAR"]).max() >= 1
    with pytest.raises(ConfigError, match=r"between 0\.3 and 1"):
        cluster_by_identity(["MKT"], 0.1)


def test_more_sequences_than_one_step() -> None:
    rng = np.random.default_rng(2)
    sequences, family = relatives(rng, 300, 8, 50, 5)
    found = cluster_by_identity(sequences, 0.5)
    assert len({*zip(found.tolist(), family, strict=True)}) == 300
    assert len(np.unique(found)) == 300
