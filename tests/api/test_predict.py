"""`moltide predict`: what it takes over from the run, what it refuses, what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import FAST, call
from tiny_runs import PARENT, assay, read_table, variants, write_table

QUICK = (*FAST, "--adapter", "head")


@pytest.fixture(scope="module")
def run(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a table of sequences."""
    folder = tmp_path_factory.mktemp("sequences")
    return finished(folder, backbone, assay(folder / "assay.csv", 60))


@pytest.fixture(scope="module")
def zero(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a table of mutations whose first residue is number 0."""
    folder = tmp_path_factory.mktemp("mutations")
    rows = []
    for text, value in zip(*variants(60), strict=True):
        pairs = enumerate(zip(PARENT, text, strict=True))
        rows.append(["/".join(f"{a}{i}{b}" for i, (a, b) in pairs if a != b), value])
    table = write_table(folder / "assay.csv", ["change", "fitness"], rows)
    return finished(folder, backbone, table, "--wildtype", PARENT)


def finished(folder: Path, backbone: Path, table: Path, *options: Any) -> Path:
    out = folder / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, *options, *QUICK) == 0
    return out


def test_wild_type_and_numbering_are_those_of_the_run(
    zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((zero / "config.json").read_text())["data"]
    assert (data["wildtype"], data["numbering"]) == (PARENT, 0)
    # The fourth residue is A.
    new = write_table(tmp_path / "new.csv", ["change"], [["A3W"]])
    sequences = write_table(tmp_path / "s.csv", ["sequence"], [["MKTWYIAKQRQISFVKSHFSRQ"]])
    found = []
    for given, options in ((new, ()), (new, ("--wildtype", PARENT)), (sequences, ())):
        out = tmp_path / "out.csv"
        capsys.readouterr()
        assert call("predict", zero, given, "-o", out, *options) == 0
        found.append(read_table(out)[0]["predicted"])
        assert ("first residue is number 0 (as in the run" in capsys.readouterr().out) == (
            given is new
        )
    assert len(set(found)) == 1
    one = write_table(tmp_path / "one.csv", ["change"], [["A4W"]])
    assert call("predict", zero, one, "-o", tmp_path / "out.csv") == 2
    assert call("predict", zero, one, "-o", tmp_path / "out.csv", "--numbering", 1) == 0
    assert read_table(tmp_path / "out.csv")[0]["predicted"] == found[0]


def test_another_wild_type_has_its_own_numbering(
    zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_table(tmp_path / "new.csv", ["change"], [["K2W/T3A"]])
    assert call("predict", zero, new, "-o", tmp_path / "o.csv", "--wildtype", PARENT[:-1]) == 0
    assert "number 1 (the only start" in capsys.readouterr().out


def test_a_run_of_an_earlier_version_still_has_its_numbering(
    zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((zero / "config.json").read_text())
    older = {**document, "data": {k: v for k, v in document["data"].items() if k != "wildtype"}}
    for column in ("sequence_column", "mutations_column"):
        del older["data"][column]
    new = write_table(tmp_path / "new.csv", ["mutant"], [["A3W"]])
    try:
        (zero / "config.json").write_text(json.dumps(older))
        assert call("predict", zero, new, "-o", tmp_path / "o.csv") == 2
        assert "--wildtype" in capsys.readouterr().err
        assert call("predict", zero, new, "-o", tmp_path / "o.csv", "--wildtype", PARENT) == 0
    finally:
        (zero / "config.json").write_text(json.dumps(document))


def test_bad_rows_do_not_hide_the_column(
    run: Path, zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = variants(3)[0]
    out = tmp_path / "out.csv"
    sequences = write_table(tmp_path / "s.csv", ["n", "sequence"], [[1, t] for t in [*good, "M1"]])
    changes = write_table(tmp_path / "m.csv", ["n", "change"], [[1, "A3W"], [2, "?"], [3, "x9"]])
    for model, new, says in (
        (run, sequences, "column 'sequence': characters that are no residues in 1 of 4"),
        (zero, sequences, "column 'sequence': characters that are no residues in 1 of 4"),
        (zero, changes, "column 'change': rows that are no mutations of the wild type: 2"),
    ):
        capsys.readouterr()
        assert call("predict", model, new, "-o", out) == 2
        assert says in capsys.readouterr().err
        assert call("predict", model, new, "-o", out, "--on-bad-row", "set_aside") == 0
        assert read_table(out)[0]["predicted"]


def test_the_column_of_the_run_decides_between_several(run: Path, tmp_path: Path) -> None:
    texts = variants(6)[0]
    rows = [[text, "G" + text[1:]] for text in texts]
    new = write_table(tmp_path / "new.csv", ["seq", "sequence"], rows)
    plain = write_table(tmp_path / "plain.csv", ["sequence"], [[row[1]] for row in rows])
    found = []
    for given in (new, plain):
        assert call("predict", run, given, "-o", tmp_path / "o.csv") == 0
        found.append([row["predicted"] for row in read_table(tmp_path / "o.csv")])
    assert found[0] == found[1]


def test_an_input_is_not_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_table(tmp_path / "new.csv", ["sequence"], [[PARENT]])
    before = new.read_text()
    (tmp_path / "link.csv").symlink_to(new)
    for command in (("predict", run, new), ("score", new, "--wildtype", PARENT)):
        assert call(*command, "-o", tmp_path / "link.csv") == 2
        assert "is the input" in capsys.readouterr().err
    assert new.read_text() == before


def test_equal_predictions_share_a_rank_and_ranks_are_explained(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*variants(2)[0], PARENT, PARENT]
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in texts])
    out = tmp_path / "out.csv"
    for options in ((), ("--ascending",)):
        assert call("predict", run, new, "-o", out, *options) == 0
        rows = read_table(out)
        assert rows[2]["rank"] == rows[3]["rank"]
        ranks = sorted(int(row["rank"]) for row in rows)
        assert ranks in ([1, 1, 3, 4], [1, 2, 2, 4], [1, 2, 3, 3])
        word = "lowest" if options else "highest"
        assert f"rank: by 'predicted'; 1 is the {word}" in capsys.readouterr().out
    assert call("score", new, "--wildtype", PARENT, "-o", out) == 0
    assert len({row["rank"] for row in read_table(out)[2:]}) == 1


def test_ranks_of_classes_and_several_targets_are_explained(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, values = variants(60)
    pairs = list(zip(texts, values, strict=True))
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in texts[:3]])
    rows = [[text, "low" if value < 0 else "zero"] for text, value in pairs]
    classes = write_table(tmp_path / "classes.csv", ["sequence", "label"], rows)
    rows = [[text, value, value + i % 3] for i, (text, value) in enumerate(pairs)]
    several = write_table(tmp_path / "several.csv", ["sequence", "Km", "Tm"], rows)
    for name, table, options, column, says in (
        ("c", classes, (), "p_zero", "by 'p_zero', the probability of 'zero'; 1 is the highest"),
        ("s", several, ("--target", "Km,Tm"), "overall", "'overall', the mean percentile among"),
    ):
        (tmp_path / name).mkdir()
        model = finished(tmp_path / name, backbone, table, *options)
        capsys.readouterr()
        assert call("predict", model, new, "-o", tmp_path / "out.csv", "--sort") == 0
        assert says in capsys.readouterr().out
        found = [float(row[column]) for row in read_table(tmp_path / "out.csv")]
        assert found == sorted(found, reverse=True)


def test_notes_say_why_a_row_has_no_prediction_or_that_of_the_wild_type(
    zero: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    rows = [[1, "A3W"], [2, ""], [3, "K0A"], [4, "?"], [5, "WT"]]
    new = write_table(tmp_path / "new.csv", ["n", "change"], rows)
    assert call("predict", zero, new, "-o", out, "--on-bad-row", "set_aside") == 0
    found = read_table(out)
    assert found[1]["predicted"] == found[4]["predicted"]
    assert "empty mutation cell, read as the wild type" in found[1]["domain_note"]
    assert found[4]["domain_note"] == ""
    for row, says in ((found[2], "M"), (found[3], "'?'")):
        assert row["predicted"] == row["in_domain"] == ""
        assert row["domain_note"].startswith("not predicted: ")
        assert says in row["domain_note"]
    new = write_table(tmp_path / "s.csv", ["sequence"], [[PARENT], ["MK1"], [PARENT]])
    assert call("predict", run, new, "-o", out, "--on-bad-row", "set_aside") == 0
    assert read_table(out)[1]["domain_note"] == "not predicted: '1' at position 3 is no residue"
