"""What pretraining reads, in which order, and what it holds out."""

from __future__ import annotations

import gzip
import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pretraining_files import PROTEINS, corpus_of, proteins, write_fasta
from tiny_runs import write_table

from moltide.errors import ConfigError, DataError
from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.holdout import copies_of, hold_out, holdout_csv, split_parts
from moltide.pretraining.order import (
    Assembler,
    Order,
    OrderSettings,
    batches,
    batches_an_epoch,
)
from moltide.pretraining.reading import Columns
from moltide.tokenizer import ResidueTokenizer


def opened(path: Path, folder: Path, **options: object) -> Corpus:
    return open_corpus([path], [sha256_of(path)], Columns(), PROTEINS, folder, **options)  # type: ignore[arg-type]


def everything(corpus: Corpus) -> list[str]:
    return [corpus.text(i) for i in range(len(corpus))]


# ---- the corpus -------------------------------------------------------------------------------


def test_a_corpus_holds_the_records_and_says_what_was_left_out(tmp_path: Path) -> None:
    texts = ["MKTAYIAKQR", "mktayiakqx", "MKT1YIAKQR", "MK", "MKT*YIAKQR", "MKTAYIAKQR*", ""]
    path = tmp_path / "a.fasta.gz"
    with gzip.open(path, "wt") as stream:
        stream.write("".join(f">r{i} x\n{text}\n" for i, text in enumerate(texts, 1)))
    corpus = opened(path, tmp_path / "c", shortest=5)
    assert everything(corpus) == ["MKTAYIAKQR", "MKTAYIAKQX", "MKTAYIAKQR"]
    assert corpus.rows.tolist() == [1, 2, 6]
    skipped = (corpus.folder / "skipped.csv").read_text().splitlines()
    assert skipped == [
        "file,row,name,reason",
        "a.fasta.gz,3,r3,'1' at position 4 is no residue",
        'a.fasta.gz,4,r4,"2 residues, fewer than 5 (shortest)"',
        "a.fasta.gz,5,r5,a stop ('*') inside the sequence",
        "a.fasta.gz,7,r7,no sequence",
    ]
    said = "\n".join(corpus.lines())
    assert "3 sequences, 30 residues" in said
    assert "records left out: 4 (a.fasta.gz record 3: '1' at position 4" in said
    assert "in lower case, upper-cased: 1" in said
    with pytest.raises(DataError, match=r"a.fasta.gz, record 3 \(r3\): '1' at position 4"):
        opened(path, tmp_path / "d", shortest=5, on_bad_row="error")
    assert not list((tmp_path / "d").iterdir())


def test_a_corpus_is_built_once_and_again_when_damaged(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "a.fasta", proteins(30))
    first = opened(path, tmp_path)
    stamp = (first.folder / "letters").stat().st_mtime_ns
    again = opened(path, tmp_path)
    assert again.folder == first.folder
    assert (again.folder / "letters").stat().st_mtime_ns == stamp
    with (first.folder / "offsets").open("ab") as stream:
        stream.write(b"x")
    mended = opened(path, tmp_path)
    assert everything(mended) == proteins(30)
    write_fasta(path, proteins(30, seed=5))
    other = opened(path, tmp_path)
    assert other.folder != first.folder
    assert other.sha256 != first.sha256


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_corpus_is_as_readable_as_other_folders(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = opened(write_fasta(tmp_path / "a.fasta", proteins(5)), tmp_path).folder
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {one.stat().st_mode & 0o777 for one in folder.iterdir()} == {0o666 & ~umask}


def test_columns_are_found_named_and_refused(tmp_path: Path) -> None:
    sequences = proteins(6)
    clusters = ["a", "b", "a", "", "c", "b"]
    weights = [1, 2.5, "many", 1, 0, -1]
    corpus = corpus_of(tmp_path, sequences, cluster=clusters, weight=weights)
    assert everything(corpus) == [sequences[i] for i in (0, 1, 4)]
    assert np.unique(corpus.clusters).size == 3
    assert corpus.weights.tolist() == [1, 2.5, 0]
    assert corpus.info["skipped"] == 3
    table = tmp_path / "corpus.csv"
    assert "3 (corpus.csv row 4: weight 'many' is no number" in "\n".join(corpus.lines())
    columns = Columns("sequence", "cluster", "weight")
    with pytest.raises(DataError, match=r"corpus.csv, row 4: weight 'many' .* leave such rows out"):
        open_corpus([table], ["x"], columns, PROTEINS, tmp_path / "c", on_bad_row="error")
    with pytest.raises(DataError, match=r"no column 'family' \(cluster\)"):
        open_corpus([table], ["x"], Columns(None, "family"), PROTEINS, tmp_path / "c")
    fasta = write_fasta(tmp_path / "a.fasta", sequences)
    with pytest.raises(ConfigError, match=r"is FASTA and has no column 'family'"):
        open_corpus([fasta], ["x"], Columns(None, "family"), PROTEINS, tmp_path / "c")


def test_short_peptides_are_found_by_the_name_of_their_column(tmp_path: Path) -> None:
    peptides = proteins(20, low=6, high=7)
    rows = [(f"p{i}", text, i / 7) for i, text in enumerate(peptides)]
    table = write_table(tmp_path / "a.csv", ["name", "peptide", "score"], rows)
    assert everything(opened(table, tmp_path, shortest=5)) == peptides


# ---- the order --------------------------------------------------------------------------------


def visits(order: Order, epoch: int) -> list[tuple[int, int, int]]:
    found = order.epoch(epoch)
    columns = [column.tolist() for column in found.windows(0, len(found))]
    return list(zip(*columns, strict=True))


def order_of(corpus: Corpus, **settings: object) -> Order:
    records = np.arange(len(corpus), dtype=np.int64)
    return Order(corpus, records, OrderSettings(**settings))  # type: ignore[arg-type]


def test_pieces_cover_each_record_once_an_epoch_and_move(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, proteins(40, low=1, high=130))
    order = order_of(corpus, longest=30, shortest=4)
    cuts = []
    for epoch in range(6):
        seen = visits(order, epoch)
        assert max(length for *_, length in seen) <= 30
        for record, length in enumerate(corpus.lengths().tolist()):
            pieces = sorted((start, size) for r, start, size in seen if r == record)
            for (start, size), (following, _) in itertools.pairwise(pieces):
                assert start + size == following
            if length <= 30:
                assert pieces == [(0, length)]
            else:  # only ends below `shortest` are left out
                assert pieces[0][0] < 4
                assert length - sum(pieces[-1]) < 4
                assert min(size for _, size in pieces) >= 4
        cuts.append(sorted(seen))
    assert all(one != other for one, other in itertools.pairwise(cuts))
    assert visits(order_of(corpus, longest=30, shortest=4), 3) == visits(order, 3)


def test_crops_are_one_window_a_record_at_random_places(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["M" * 20, "A" * 50])
    order = order_of(corpus, longest=48, long="crop")
    starts = Counter()
    for epoch in range(300):
        seen = {record: (start, size) for record, start, size in visits(order, epoch)}
        assert seen[0] == (0, 20)
        assert seen[1][1] == 48
        starts[seen[1][0]] += 1
    assert set(starts) == {0, 1, 2}
    assert min(starts.values()) > 60


def test_epochs_are_shuffled_by_seed_and_epoch_alone(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, proteins(50))
    one, other = order_of(corpus), order_of(corpus, seed=1)
    assert visits(one, 0) != visits(one, 1)
    assert visits(one, 0) != visits(other, 0)
    assert sorted(visits(one, 0)) == sorted(visits(one, 1))
    assert visits(one, 1) == visits(order_of(corpus), 1)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_clusters_are_drawn_by_their_size_to_a_power(tmp_path: Path, power: float) -> None:
    sizes = {"a": 1, "b": 4, "c": 25}
    clusters = [name for name, size in sizes.items() for _ in range(size)]
    corpus = corpus_of(tmp_path, proteins(30), cluster=clusters)
    order = order_of(corpus, cluster_weight=power)
    drawn, members = Counter(), Counter()
    epochs = 2000
    for epoch in range(epochs):
        seen = visits(order, epoch)
        assert len(seen) == 3
        drawn.update(clusters[record] for record, *_ in seen)
        members.update(record for record, *_ in seen)
        if power == 0:
            assert len({clusters[record] for record, *_ in seen}) == 3
    total = sum(size**power for size in sizes.values())
    for name, size in sizes.items():
        assert drawn[name] / (3 * epochs) == pytest.approx(size**power / total, abs=0.025)
    inside = [members[record] for record in range(5, 30)]
    assert min(inside) > 0.5 * max(inside)
    assert visits(order_of(corpus, cluster_weight=power), 7) == visits(order, 7)


def test_weights_decide_which_member_and_which_record(tmp_path: Path) -> None:
    clusters, weights = ["a", "a", "b", "b", "c"], [1, 3, 0, 2, 0]
    corpus = corpus_of(tmp_path, proteins(5), cluster=clusters, weight=weights)
    drawn: Counter[int] = Counter()
    order = order_of(corpus, cluster_weight=0.0)
    for epoch in range(1000):
        drawn.update(record for record, *_ in visits(order, epoch))
    assert drawn[2] == drawn[4] == 0
    assert drawn[3] == 1000
    assert drawn[1] / 1000 == pytest.approx(0.75, abs=0.05)
    plain: Counter[int] = Counter()
    order = order_of(corpus)
    for epoch in range(1000):
        plain.update(record for record, *_ in visits(order, epoch))
    for record, weight in enumerate(weights):
        assert plain[record] / 5000 == pytest.approx(weight / 6, abs=0.025)


@pytest.mark.parametrize("power", [None, 0.0, 1.0])
def test_weights_that_are_all_0_are_refused(tmp_path: Path, power: float | None) -> None:
    clusters = ["a", "a", "b", "b", "c"]
    corpus = corpus_of(tmp_path, proteins(5), cluster=clusters, weight=[0, 0, 0, 0, 1])
    settings = OrderSettings(cluster_weight=power)
    with pytest.raises(DataError, match=r"corpus.csv: all 4 training records have the weight 0"):
        Order(corpus, np.arange(4), settings)
    assert Order(corpus, np.arange(5), settings).epoch(0).order.tolist().count(4) >= 1


def test_batches_are_full_endless_and_begin_anywhere(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, proteins(60))
    order = order_of(corpus, longest=40)
    whole = list(itertools.islice(batches(order, 200), 60))
    assert whole[-1].epoch > 1
    assert all(150 < batch.tokens <= 200 for batch in whole)
    for at in (0, 7, 41):
        rest = list(itertools.islice(batches(order, 200, whole[at].place), 60 - at - 1))
        for one, other in zip(whole[at + 1 :], rest, strict=True):
            assert one.place == other.place
            np.testing.assert_array_equal(one.begins, other.begins)
            np.testing.assert_array_equal(one.lengths, other.lengths)
    counted = batches_an_epoch(order, 200)
    assert counted == pytest.approx(sum(batch.epoch == 0 for batch in whole), abs=1)


def test_batches_hold_the_published_tokens(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["MKTAYIAKQRX", "ACDEFGHIKL"])
    tokenizer = ResidueTokenizer()
    tokens, offsets = Assembler(corpus)(np.array([2, 11]), np.array([9, 10]))
    expected, cu = tokenizer.encode(["TAYIAKQRX", "ACDEFGHIKL"])
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_array_equal(offsets, cu)


# ---- held out ---------------------------------------------------------------------------------


def test_relatives_stay_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = []
    for parent in proteins(25, low=60, high=90):
        for _ in range(4):  # four relatives, about 95 % identical
            letters = list(parent)
            for place in rng.choice(len(letters), 3, replace=False):
                letters[place] = "A" if letters[place] != "A" else "G"
            texts.append("".join(letters))
    corpus = corpus_of(tmp_path, texts)
    parts = split_parts(corpus, None, 0.1, 0.5, 0)
    assert len(parts.held_out) == 8
    assert sorted([*parts.train, *parts.held_out]) == list(range(100))
    families = {record // 4 for record in parts.held_out.tolist()}
    assert families.isdisjoint({record // 4 for record in parts.train.tolist()})
    lines = holdout_csv(corpus, parts).splitlines()
    assert lines[0] == "file,row,name,cluster"
    assert [int(line.split(",")[1]) for line in lines[1:]] == [r + 2 for r in parts.held_out]
    # A second look finds the clusters beside the corpus.
    assert split_parts(corpus, None, 0.1, 0.5, 0).held_out.tolist() == parts.held_out.tolist()


def test_clusters_of_a_column_are_held_out_whole_and_large_ones_stay(tmp_path: Path) -> None:
    clusters = ["big"] * 60 + [f"c{i // 2}" for i in range(40)]
    corpus = corpus_of(tmp_path, proteins(100), cluster=clusters)
    for seed in range(5):
        parts = split_parts(corpus, None, 0.05, 0.5, seed)
        held = {clusters[record] for record in parts.held_out.tolist()}
        assert "big" not in held
        assert len(parts.held_out) == 4
        assert held.isdisjoint({clusters[record] for record in parts.train.tolist()})
    with pytest.raises(DataError, match="none can be held out within"):
        hold_out(np.repeat([0, 1], 50), 0.1, 0)


def test_copies_of_validation_sequences_are_left_out(tmp_path: Path) -> None:
    texts = proteins(30)
    corpus = opened(write_fasta(tmp_path / "train.fasta", texts), tmp_path)
    valid = opened(write_fasta(tmp_path / "valid.fasta", [texts[3], *proteins(5, 9)]), tmp_path)
    assert np.flatnonzero(copies_of(corpus, valid)).tolist() == [3]
    parts = split_parts(corpus, valid, 0.02, 0.5, 0)
    assert 3 not in parts.train
    assert "validation has the same: 1" in parts.lines[1]
