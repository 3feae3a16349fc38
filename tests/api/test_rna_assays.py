"""RNA from table to prediction: found by its letters, cleaned, fine-tuned, predicted, embedded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_tables import read, said, scores
from command import call, one_error
from tiny_runs import read_table, write_table

import moltide as mt
from moltide.assay import read_assay
from moltide.errors import ConfigError, DataError
from moltide.random_init import esm2_config, random_encoder
from moltide.splits import make_split
from moltide.tokenization.nucleotides import ESM_NUCLEOTIDES, NucleotideTokenizer

FAST = ("--epochs", 2, "--no-learning-curve")
N = 60


def transcripts(n: int = N, seed: int = 0) -> list[str]:
    """Of different lengths and GC contents."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        gc = rng.uniform(0.2, 0.8)
        shares = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
        made.append("".join(rng.choice(list("ACGU"), int(rng.integers(24, 60)), p=shares)))
    return made


def gc_content(text: str) -> float:
    return sum(one in "GC" for one in text) / len(text)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = NucleotideTokenizer(ESM_NUCLEOTIDES, published_as="EsmTokenizer")
    folder = tmp_path_factory.mktemp("backbone") / "rna"
    random_encoder(esm2_config(2, 16, 2), tokenizer=tokenizer).save(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = transcripts()
    rows = [[f"t{i}", text.replace("U", "T"), gc_content(text)] for i, text in enumerate(texts)]
    return write_table(tmp_path_factory.mktemp("table") / "t.csv", ["id", "utr", "y"], rows)


@pytest.fixture(scope="module")
def run(backbone: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    options = ("--backbone", backbone, "--split", "cluster", *FAST)
    assert call("finetune", table, "--out", out, *options) == 0
    return out


def test_nucleotides_are_found_and_cleaned(tmp_path: Path) -> None:
    texts = transcripts()
    spelled = [texts[0].lower(), texts[1].replace("U", "T"), f"{texts[2][:9]} {texts[2][9:]}"]
    spelled += [texts[3][:-1] + "N", *texts[4:]]
    brackets = ["(" * 5 + "." * (len(text) - 10) + ")" * 5 for text in texts]
    found = read(tmp_path, {"transcript": spelled, "structure": brackets, "y": scores(N)})
    assert found.kind == "rna"
    assert found.sequences == [*texts[:3], texts[3][:-1] + "N", *texts[4:]]
    told = said(found)
    assert f"sequence column: 'transcript' ({N} of {N} values are nucleotides)" in told
    assert "nucleotides (median" in told
    assert "sequences with T, read as U: 1" in told
    assert "rare nucleotides (N R Y S W K M B D H V I X), kept: 1" in told
    assert "residue" not in told


def test_genes_beside_proteins_and_molecules_are_passed_over(tmp_path: Path) -> None:
    genes, y = transcripts(24), scores(24)
    proteins = [f"{'MKTAYIAKQRQISFVKSHFSRQEERLGL'[i:]}WW" for i in range(24)]
    found = read(tmp_path, {"gene": genes, "sequence": proteins, "y": y})
    assert (found.kind, found.sequences) == ("protein", proteins)
    smiles = ["C" * (i + 1) + "c1ccccc1" for i in range(24)]
    pytest.importorskip("rdkit")
    assert read(tmp_path, {"tag": genes, "smiles": smiles, "y": y}).kind == "molecule"
    assert read(tmp_path, {"tag": genes, "smiles": smiles, "y": y}, sequence="tag").kind == "rna"
    assert read(tmp_path, {"tag": genes, "smiles": smiles, "y": y}, kind="rna").sequences == genes


def test_bad_letters_are_named_by_row(tmp_path: Path) -> None:
    texts = transcripts()
    texts[4] = "ACGEU" * 6
    columns: dict[str, Any] = {"rna": texts, "y": scores(N)}
    with pytest.raises(DataError, match=r"no nucleotides in 1 of 60 .*row 6: 'E' at position 4"):
        read(tmp_path, columns)
    found = read(tmp_path, columns, on_bad_row="set_aside")
    assert found.summary.set_aside == {"illegal nucleotide": [6]}
    # A third of the cells says little; the name and --kind say the rest.
    texts[: N // 3] = ["MLEEFPQR" * 4] * (N // 3)
    found = read(tmp_path, columns, on_bad_row="set_aside", kind="rna")
    assert len(found.summary.set_aside["illegal nucleotide"]) == N // 3
    with pytest.raises(DataError, match="no column of nucleotides found"):
        read(tmp_path, {"x": texts[: N // 3], "y": scores(N // 3)}, kind="rna")


def test_records_of_fasta_are_rna_by_their_letters(tmp_path: Path) -> None:
    texts = transcripts(24)
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">t{i}\n{text.lower()}\n" for i, text in enumerate(texts)))
    rows = [[f"t{i}", y] for i, y in enumerate(scores(24))]
    table = write_table(tmp_path / "t.csv", ["id", "y"], rows)
    found = read_assay(table, fasta=fasta)
    assert (found.kind, found.sequences) == ("rna", texts)


def test_variants_of_an_rna_have_a_wild_type(tmp_path: Path) -> None:
    parent = transcripts(1, seed=3)[0]
    changed = {p: "A" if parent[p] != "A" else "C" for p in range(24)}
    texts = [parent[:p] + letter + parent[p + 1 :] for p, letter in changed.items()]
    found = read(tmp_path, {"rna": texts, "y": scores(24)})
    assert found.wildtype == parent
    assert f"24 sequences of {len(parent)} nucleotides" in said(found)
    given = read(tmp_path, {"rna": texts, "y": scores(24)}, wildtype=parent.replace("U", "T"))
    assert given.wildtype == parent
    assert make_split(found, "position").method == "position"


def test_a_run_on_rna_ends_beside_its_baselines(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"composition", "ridge", "ridge_kmers", "zero_shot"} <= metrics["baselines"].keys()
    page = (run / "report.html").read_text()
    assert "ridge on GC content and length" in page
    model = mt.load_assay_model(run)
    values = model.predict(["ACGUACGUGGCC", "acgtacgtggcc"])
    assert np.isfinite(values).all()
    assert values[0] == values[1]


def test_new_rna_is_predicted(run: Path, tmp_path: Path) -> None:
    texts = transcripts(12, seed=5)
    rows = [[f"n{i}", text.lower().replace("u", "t")] for i, text in enumerate(texts)]
    rows[2][1] = "ACGE"
    new = write_table(tmp_path / "new.csv", ["id", "utr"], rows)
    out = tmp_path / "p.csv"
    assert call("predict", run, new, "-o", out, "--on-bad-row", "set_aside") == 0
    found = read_table(out)
    assert [bool(row["predicted"]) for row in found] == [i != 2 for i in range(12)]
    assert "'E' at position 4 is no nucleotide" in found[2]["domain_note"]
    fasta = tmp_path / "new.fasta"
    fasta.write_text("".join(f">n{i}\n{text}\n" for i, text in enumerate(texts) if i != 2))
    assert call("predict", run, fasta, "-o", tmp_path / "f.csv") == 0
    again = [row["predicted"] for row in read_table(tmp_path / "f.csv")]
    assert again == [row["predicted"] for row in found if row["predicted"]]


def test_rna_is_embedded(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = transcripts(6)
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">t{i}\n{text.replace('U', 'T')}\n" for i, text in enumerate(texts)))
    out = tmp_path / "e.npy"
    assert call("embed", fasta, "-o", out, "--backbone", backbone) == 0
    np.testing.assert_allclose(np.load(out), mt.load(backbone).embed(texts), atol=1e-6)
    message = one_error(capsys, "embed", fasta, "-o", out)
    assert "no model of RNA is bundled" in message
    assert "multimolecule/rnafm" in message


def test_a_backbone_of_another_kind_is_refused(
    backbone: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    message = one_error(capsys, "finetune", table, "--out", out, "--backbone", "protein-mini")
    assert "t.csv holds RNA, protein-mini reads proteins; give a backbone of RNA" in message
    message = one_error(capsys, "finetune", table, "--out", out)
    assert "no model of RNA is bundled: give one (--backbone), such as multimolecule" in message
    texts = ["MKTAYIAKQRQISFVKSHFSRQ"[i % 5 :] + "AYIAKQ" * (i % 7) for i in range(30)]
    proteins = [[text, y] for text, y in zip(texts, scores(30), strict=True)]
    other = write_table(tmp_path / "p.csv", ["sequence", "y"], proteins)
    message = one_error(capsys, "finetune", other, "--out", out, "--backbone", backbone)
    assert "p.csv holds proteins" in message
    assert "reads RNA; give a backbone of proteins" in message
    assert not out.exists()


def test_every_nucleotide_gets_its_label(backbone: Path) -> None:
    """Labels that the letters alone decide are learned to the last one."""
    texts = transcripts(40)
    labels = [["|" if one in "GC" else "." for one in text] for text in texts]
    model = mt.AssayClassifier(
        backbone, adapter="full", level="residue", epochs=20, lr=1e-2, head_lr_scale=1.0
    )
    model.fit([text.lower() for text in texts], labels)
    assert model.score(texts, labels) == 1.0
    said = model.predict(["ACGTN"])
    assert said[0].shape == (5,)
    assert "".join(said[0][:4]) == ".||."
    with pytest.raises(DataError, match="sequence 0, position 4: 'E' is no nucleotide"):
        model.predict(["ACGE"])
    with pytest.raises(ConfigError, match="a per-residue model keeps no training sequences"):
        model.in_domain(texts)


def test_rna_is_scored_by_its_four_letters(backbone: Path, tmp_path: Path) -> None:
    parent = "ACGUACGUNACG"
    encoder = mt.load(backbone)
    found = encoder.scan(parent)
    assert found.residues == "ACGU"
    assert found.scores.shape == (12, 4)
    assert np.isnan(found.scores[8]).all()
    names, scores = found.to_long()
    assert len(names) == 3 * 11
    np.testing.assert_allclose(encoder.score_variants(parent, names), scores, atol=1e-5)
    out, heatmap = tmp_path / "s.csv", tmp_path / "s.svg"
    spelled = parent.replace("U", "T")
    options = ("--wildtype", spelled, "--backbone", backbone, "--heatmap", heatmap)
    assert call("score", "-o", out, *options) == 0
    assert [row["mutation"] for row in read_table(out)] == names
    variants = write_table(tmp_path / "v.csv", ["rna"], [["ACGTACGTNACA"], [parent], [parent[1:]]])
    options = ("--wildtype", spelled, "--backbone", backbone, "--on-bad-row", "set_aside")
    assert call("score", variants, "-o", out, *options) == 0
    rows = read_table(out)
    assert float(rows[0]["score"]) == pytest.approx(scores[names.index("G12A")], abs=1e-4)
    assert float(rows[1]["score"]) == 0
    assert rows[2]["note"] == "not scored: 11 nucleotides, the wild type has 12"
