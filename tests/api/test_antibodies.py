"""Pairs of antibody chains: read from two columns, seen through a linker, split as pairs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from antibodies import HEAVY, LIGHT, LINEAGES, antibodies
from command import call, one_error
from tiny_runs import read_table, tiny_backbone, tiny_encoder, write_table

import moltide as mt
from moltide import pairs
from moltide.assay import AssayTable
from moltide.assay.read import read_frame
from moltide.assay_model.domain import Domain
from moltide.baselines.features import Kmers, OneHot, features_for
from moltide.errors import ConfigError, DataError
from moltide.finetune.table import mean_log_probability
from moltide.sequence_files import read_sequences
from moltide.splits import make_split

SET, ALIGNED = antibodies(), antibodies(ragged=False)
TM = np.array(SET.melting)


def frame(names: tuple[str, str] = ("VH", "VL"), **more: Any) -> pd.DataFrame:
    columns = {names[0]: SET.heavy, names[1]: SET.light, "Tm": SET.melting}
    return pd.DataFrame({**columns, **more})


def read(table: pd.DataFrame, **options: Any) -> AssayTable:
    return read_frame(table, name="ab.csv", **options)


@pytest.mark.parametrize(
    "names",
    [
        ("heavy", "light"),
        ("VH", "VL"),
        ("vh_sequence", "vl_sequence"),
        ("HC", "LC"),
        ("heavy_chain", "light_chain"),
        ("fv_heavy", "fv_light"),
        ("HeavySequence", "LightSequence"),
        ("sequence_alignment_aa_heavy", "sequence_alignment_aa_light"),
    ],
)
def test_columns_of_chains_are_found_by_name(names: tuple[str, str]) -> None:
    table = read(frame(names))
    assert table.sequences == SET.texts
    assert table.paired
    assert table.summary.chain_columns == {"heavy": names[0], "light": names[1]}
    said = "\n".join(table.summary.lines())
    assert (
        f"pairs of chains: columns heavy '{names[0]}', light '{names[1]}' (by their names)" in said
    )
    assert "60 distinct" in said
    assert table.summary.max_length == max(len(text) - 1 for text in SET.texts)


def test_columns_of_chains_can_be_named() -> None:
    odd = frame(("first", "second"))
    assert (
        read(odd, heavy="second", light="first").sequences[0] == SET.light[0] + ":" + SET.heavy[0]
    )
    # One of them is enough where the other has a telling name.
    assert read(frame(("first", "VL")), heavy="first").sequences == SET.texts
    with pytest.raises(DataError, match=r"no column 'thrid' \(the light chains\)"):
        read(odd, heavy="first", light="thrid")
    with pytest.raises(DataError, match="'first' is named as both chains"):
        read(odd, heavy="first", light="first")
    with pytest.raises(DataError, match=r"no column of light chains found; name it \(light\)"):
        read(odd, heavy="first")
    with pytest.raises(DataError, match="several columns could be the heavy chains: 'VH', 'heavy'"):
        read(frame(heavy=SET.heavy))
    changes = [f"A{i + 1}C" for i in range(60)]
    assert "mutations are not read beside pairs: 'm'" in "\n".join(
        read(frame(m=changes)).summary.said
    )
    single = read(frame(), sequence="VH")
    assert not single.paired
    assert single.sequences[0] == SET.heavy[0]
    whole = [one.replace(":", "") for one in SET.texts]
    with pytest.raises(DataError, match="hold pairs of chains, and 'sequence' sequences: name"):
        read(frame(sequence=whole))


@pytest.mark.parametrize(
    "options",
    [
        {"heavy": "VH", "mutations": "m"},
        {"light": "VL", "wildtype": "MKT"},
        {"heavy": "VH", "sequence": "VL"},
        {"heavy": "VH", "fasta": "a.fasta"},
        {"heavy": "VH", "kind": "molecule"},
    ],
)
def test_what_makes_no_sense_with_pairs_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(heavy|light) (does not go|goes) with"):
        read(frame(), **options)


def test_a_wild_type_is_refused_where_pairs_are_found() -> None:
    with pytest.raises(DataError, match="pairs of chains, which have no wild type: leave out"):
        read(frame(), wildtype=SET.heavy[0])


def test_unpaired_rows_are_set_aside_and_counted() -> None:
    table = frame()
    table.loc[2, "VL"] = ""
    table.loc[5, "VL"] = "N/A"
    table.loc[7, "VH"] = None
    table.loc[9, ["VH", "VL"]] = ""
    found = read(table)
    assert found.summary.set_aside == {
        "no light chain": [4, 7],
        "no heavy chain": [9],
        "no sequence": [11],
    }
    assert len(found) == 56
    lines = "\n".join(found.summary.lines())
    assert "60 read = 56 used + 4 set aside" in lines
    assert "set aside, no light chain: 2 (rows 4 and 7)" in lines


def test_bad_residues_are_named_by_chain() -> None:
    table = frame()
    table.loc[3, "VL"] = "DIQM7TQ"
    with pytest.raises(DataError, match=r"column 'VL'.*\(row 5: '7' at position 5\)"):
        read(table)
    assert read(table, on_bad_row="set_aside").summary.set_aside == {"illegal residue": [5]}


def test_a_duplicate_is_the_same_pair() -> None:
    table = frame()
    again = pd.DataFrame({"VH": [SET.heavy[0]] * 2, "VL": [SET.light[0], SET.light[1]], "Tm": 50.0})
    found = read(pd.concat([table, again], ignore_index=True))
    assert len(found) == 61
    assert found.rows[0] == [2, 62]
    assert found.rows[-1] == [63]
    assert found.targets[0, 0] == pytest.approx((SET.melting[0] + 50) / 2)


def test_a_model_reads_both_chains_through_the_linker() -> None:
    encoder = tiny_encoder()
    text = f"{SET.heavy[0]}:{SET.light[0]}"
    joined = f"{SET.heavy[0]}GGGGSGGGGSGGGGS{SET.light[0]}"
    np.testing.assert_array_equal(encoder.embed([text]), encoder.embed([joined]))
    assert encoder.tokenizer.cost(text) == len(joined) + 2
    # The published ids of any text stay what they are.
    tokens, _ = encoder.tokenizer.encode(["A:C"], "unknown")
    assert tokens.tolist()[2] == encoder.tokenizer.unk_id
    inside = pairs.of_chains("AC:DEF")
    assert inside.tolist() == [True] * 2 + [False] * 15 + [True] * 3


def test_zero_shot_scores_leave_the_linker_out() -> None:
    encoder = tiny_encoder()
    text = f"{SET.heavy[0]}:{SET.light[0]}"
    tokens, _ = encoder.tokenizer.encode([text])
    logits = encoder.logits([text])[0].astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    own = np.log(shares / shares.sum(axis=1, keepdims=True))[np.arange(len(tokens)), tokens]
    h = 1 + len(SET.heavy[0])
    expected = np.r_[own[1:h], own[h + 15 : -1]].mean()
    assert mean_log_probability(encoder, [text])[0] == pytest.approx(expected, abs=1e-6)


def test_features_see_chains_apart_and_no_linker() -> None:
    assert features_for(ALIGNED.texts, []) is OneHot
    assert features_for(SET.texts, []) is Kmers
    # As long as the others in all, but not chain by chain.
    moved = f"{ALIGNED.heavy[0][:-1]}:{ALIGNED.light[0]}A"
    assert features_for(ALIGNED.texts, [moved]) is Kmers
    made = Kmers((1, 2)).fit(["AC:DE", "AC:CA"])
    counts = made.transform(["AC:DE", "AC:CA"]).toarray() + made.reference_
    # A, C, light A, C, D, E, and AC, light CA, DE; the pair of letters beside the break is none.
    assert made.n_variable_ == 9
    assert counts.sum(axis=1).tolist() == [4 + 2, 4 + 2]
    swapped = made.transform(["CA:AC"]).toarray() + made.reference_
    assert (swapped[0] != counts[1]).any()


def test_one_hot_distances_are_substitutions_in_either_chain() -> None:
    made = OneHot().fit(ALIGNED.texts)
    heavy = list(ALIGNED.heavy[0])
    heavy[4] = "W" if heavy[4] != "W" else "Y"
    both = made.transform([ALIGNED.texts[0], "".join(heavy) + ":" + ALIGNED.light[0]]).toarray()
    assert ((both[0] - both[1]) ** 2).sum() == 2


def test_splits_keep_lineages_together() -> None:
    table = read(frame())
    split = make_split(table)
    assert split.method == "cluster"
    assert "lineage" in split.reason
    assert split.groups is not None
    lineage = np.repeat(np.arange(LINEAGES), len(SET) // LINEAGES)
    for one in range(LINEAGES):
        assert len(set(split.labels[lineage == one])) == 1
    assert len(set(split.groups)) == LINEAGES
    assert "clusters at 80% identity over both chains: 4" in split.notes[0]
    with pytest.raises(DataError, match="pairs of chains have no wild type"):
        make_split(table, "position")


def test_clusters_are_of_the_pair() -> None:
    """Heavy chains of one lineage with light chains of four are four clusters."""
    table = read(frame(VH=[SET.heavy[i % 15] for i in range(60)]))
    split = make_split(table, "cluster", identity=0.85)
    assert split.groups is not None
    assert split.groups.tolist() == np.repeat(range(4), 15).tolist()


def test_the_domain_speaks_of_chains() -> None:
    domain = Domain.fit(ALIGNED.texts)
    heavy, light = ALIGNED.heavy[0], ALIGNED.light[0]
    column = [one[10] for one in ALIGNED.light]
    unseen = next(letter for letter in "ACDEFGHIKLMNPQRSTVWY" if letter not in column)
    fixed = Domain.fit([f"{heavy}:{one}" for one in ALIGNED.light[:15]])
    notes = fixed.check([f"{heavy}:{light}", f"W{heavy[1:]}:{light}", f"{heavy}:{light}A"])
    assert notes[0] == ""
    assert notes[1] == "position heavy 1 never varied in training"
    assert notes[2] == (
        f"chains of {HEAVY} and {LIGHT + 1} residues; in training {HEAVY} and {LIGHT}"
    )
    assert domain.check([f"{heavy}:{light[:10]}{unseen}{light[11:]}"])[0] in (
        "",
        "position light 11 never varied in training",
    )
    ragged = Domain.fit(SET.texts)
    assert ragged.check([f"{light}:{heavy}"]) == ["unlike any training pair"]
    again = Domain.from_arrays(fixed.arrays())
    assert again.sequences == fixed.sequences


def fitted() -> mt.AssayRegressor:
    model = mt.AssayRegressor(tiny_encoder(), epochs=1, adapter="head", max_tokens=4096)
    return model.fit(frame()[["VH", "VL"]], TM)


def test_estimators_take_two_columns(tmp_path: Path) -> None:
    model = fitted()
    table = frame()[["VH", "VL"]]
    expected = model.predict(table)
    np.testing.assert_array_equal(expected, model.predict(table.to_numpy()))
    np.testing.assert_array_equal(expected, model.predict(table[["VL", "VH"]]))
    np.testing.assert_array_equal(
        expected, model.predict(list(zip(SET.heavy, SET.light, strict=True)))
    )
    assert model.model_.spec.paired
    with pytest.raises(DataError, match=r"fitted to pairs of chains .*sequence 0 is a single one"):
        model.predict(SET.heavy)
    with pytest.raises(DataError, match="the light chain of pair 1 is empty"):
        model.predict([(SET.heavy[0], SET.light[0]), (SET.heavy[1], "")])
    with pytest.raises(DataError, match="heavy chain of pair 0, position 3: '1'"):
        model.predict([("MK1", "MKT")])
    model.save(tmp_path / "model")
    loaded = mt.load_assay_model(tmp_path / "model")
    np.testing.assert_array_equal(expected, loaded.predict(table))
    assert loaded.domain_notes(table) == model.domain_notes(table)
    with pytest.raises(DataError, match="fitted to pairs"):
        loaded.predict(SET.light)


def test_a_model_of_single_chains_refuses_pairs() -> None:
    model = mt.AssayRegressor(tiny_encoder(), epochs=1, adapter="head").fit(SET.heavy, TM)
    with pytest.raises(DataError, match="fitted to single sequences; sequence 0 is a pair"):
        model.predict([(SET.heavy[0], SET.light[0])])
    with pytest.raises(ConfigError, match="allowed of pairs of chains: 'sequence'"):
        mt.AssayRegressor(tiny_encoder(), level="residue", epochs=1).fit(
            [("MK", "MK")] * 12, [[1.0] * 5] * 12
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two developability endpoints."""
    folder = tmp_path_factory.mktemp("antibodies")
    backbone = tiny_backbone(folder / "backbone")
    rows = zip(SET.heavy, SET.light, SET.melting, SET.aggregates, strict=True)
    write_table(folder / "ab.csv", ["VH", "VL", "Tm", "aggregates"], [*rows])
    options = ("--backbone", backbone, "--targets", "all", "--epochs", 1, "--no-learning-curve")
    assert call("finetune", folder / "ab.csv", "--out", folder / "run", *options) == 0
    return folder


def test_a_run_keeps_both_chains_apart(run: Path) -> None:
    predictions = read_table(run / "run" / "predictions.csv")
    known = set(zip(SET.heavy, SET.light, strict=True))
    assert {(row["heavy"], row["light"]) for row in predictions} < known
    assert {"measured_Tm", "predicted_Tm", "p_yes_aggregates"} <= set(predictions[0])
    split = read_table(run / "run" / "split.csv")
    assert [(row["heavy"], row["light"]) for row in split] == [
        *zip(SET.heavy, SET.light, strict=True)
    ]
    report = (run / "run" / "report.html").read_text()
    assert "pairs of chains" in report


def test_predict_reads_the_same_columns(run: Path, tmp_path: Path, capsys: Any) -> None:
    rows = [["a", SET.light[0], SET.heavy[0]], ["b", SET.light[1], SET.heavy[20]]]
    new = write_table(tmp_path / "new.csv", ["name", "VL", "VH"], rows)
    out = tmp_path / "out.csv"
    assert call("predict", run / "run", new, "-o", out) == 0
    found = read_table(out)
    assert [[row["name"], row["VL"], row["VH"]] for row in found] == rows
    model = mt.load_assay_model(run / "run")
    values = model.predict([(SET.heavy[0], SET.light[0]), (SET.heavy[20], SET.light[1])])
    assert [float(row["predicted_Tm"]) for row in found] == pytest.approx(values[:, 0], rel=1e-4)

    renamed = write_table(tmp_path / "renamed.csv", ["name", "L", "H"], rows)
    said = one_error(capsys, "predict", run / "run", renamed, "-o", out)
    assert "renamed.csv: no column of heavy chains found; name it (--heavy)" in said
    chains = ("--heavy", "H", "--light", "L")
    assert call("predict", run / "run", renamed, "-o", out, *chains) == 0
    assert [row["predicted_Tm"] for row in read_table(out)] == [r["predicted_Tm"] for r in found]

    single = write_table(tmp_path / "single.csv", ["sequence"], [[SET.heavy[0]]])
    said = one_error(capsys, "predict", run / "run", single, "-o", out)
    assert "single.csv: no column of heavy chains found" in said
    said = one_error(capsys, "predict", run / "run", single, "-o", out, "--sequence", "sequence")
    assert "fitted to pairs of chains; name them with --heavy and --light" in said
    fasta = tmp_path / "new.fasta"
    fasta.write_text(f">a\n{SET.heavy[0]}\n")
    assert "FASTA records are single" in one_error(capsys, "predict", run / "run", fasta, "-o", out)


def test_predict_says_which_rows_have_no_pair(run: Path, tmp_path: Path, capsys: Any) -> None:
    rows = [[SET.heavy[0], SET.light[0]], [SET.heavy[1], ""], ["", SET.light[2]]]
    new = write_table(tmp_path / "new.csv", ["VH", "VL"], rows)
    said = one_error(capsys, "predict", run / "run", new, "-o", tmp_path / "out.csv")
    assert "row 3: no light chain" in said
    options = ("-o", tmp_path / "out.csv", "--on-bad-row", "set_aside")
    assert call("predict", run / "run", new, *options) == 0
    notes = [row["domain_note"] for row in read_table(tmp_path / "out.csv")]
    assert notes[1:] == ["not predicted: no light chain", "not predicted: no heavy chain"]


def test_named_chains_need_a_model_of_pairs(tmp_path: Path, capsys: Any) -> None:
    backbone = tiny_backbone(tmp_path / "backbone")
    write_table(tmp_path / "vh.csv", ["VH", "Tm"], [*zip(SET.heavy, SET.melting, strict=True)])
    options = ("--backbone", backbone, "--epochs", 1, "--no-learning-curve", "--split", "random")
    assert call("finetune", tmp_path / "vh.csv", "--out", tmp_path / "run", *options) == 0
    both = write_table(tmp_path / "both.csv", ["VH", "VL"], [[SET.heavy[0], SET.light[0]]])
    out = ("-o", tmp_path / "out.csv")
    said = one_error(capsys, "predict", tmp_path / "run", both, *out, "--light", "VL")
    assert "--light VL: this model was fitted to single sequences" in said
    assert call("predict", tmp_path / "run", both, *out) == 0
    assert len(read_table(tmp_path / "out.csv")) == 1


def test_sequences_of_a_table_are_pairs_where_chains_are_named(tmp_path: Path) -> None:
    path = tmp_path / "ab.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["h", "l"], *zip(SET.heavy, SET.light, strict=True)])
    assert read_sequences(path, heavy="h", light="l").sequences == SET.texts


def test_embed_reads_pairs(tmp_path: Path) -> None:
    table, folder = tmp_path / "ab.csv", tiny_backbone(tmp_path)
    frame(("first", "second")).to_csv(table, index=False)
    options = ["--heavy", "first", "--light", "second", "--backbone", folder]
    whole, each = tmp_path / "whole.npy", tmp_path / "each.parquet"
    assert call("embed", table, "-o", whole, *options) == 0
    encoder = mt.load(folder)
    assert np.array_equal(np.load(whole), encoder.embed(SET.texts))
    assert call("embed", table, "-o", each, *options, "--pool", "none") == 0
    residues = np.stack(list(pd.read_parquet(each)["embedding"][0]))
    # The linker's vectors are left out, what stands around them is not.
    read = encoder.embed(SET.texts[:1], None)[0]
    heavy, light = pairs.lengths(SET.texts[0])
    assert len(residues) == heavy + light < len(read)
    assert np.array_equal(residues[:heavy], read[:heavy])
    assert np.array_equal(residues[heavy:], read[-light:])


def test_embed_finds_pairs_by_name(tmp_path: Path) -> None:
    table, folder = tmp_path / "ab.csv", tiny_backbone(tmp_path)
    frame().to_csv(table, index=False)
    assert call("embed", table, "-o", tmp_path / "out.npy", "--backbone", folder) == 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), mt.load(folder).embed(SET.texts))
