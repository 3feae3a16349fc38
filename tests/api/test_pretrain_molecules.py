"""`moltide pretrain --kind molecule`: SMILES, other ways of writing them, scaffolds held out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command import call, one_error
from pretraining_files import SMALL
from tiny_runs import contents, write_table

import moltide as mt
from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.holdout import copies_of, split_parts
from moltide.pretraining.molecules import read_molecules
from moltide.pretraining.reading import Columns
from moltide.pretraining.symbols import Symbols
from moltide.smiles_tokenizer import SmilesTokenizer

pytest.importorskip("rdkit")

RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccsc1", "C1CCNCC1", "c1ccoc1", "c1cnc[nH]1")
CHAINS = ("C", "CC", "CCC", "O", "OC", "N", "NC", "F", "Cl", "C(=O)O", "C(N)=O", "N#C", "SC", "CO")


def molecules() -> list[str]:
    """A ring with a chain, in a way of writing that is not canonical."""
    return [chain + ring for ring in RINGS for chain in CHAINS if "(" not in chain]


def corpus_of(folder: Path, smiles: list[str], augment: int = 0, name: str = "table") -> Corpus:
    table = write_table(folder / f"{name}.csv", ["smiles"], [[text] for text in smiles])
    columns = Columns(kind="molecule", augment=augment)
    symbols = Symbols(SmilesTokenizer())
    return open_corpus([table], [sha256_of(table)], columns, symbols, folder / "corpora")


def test_molecules_are_canonical_and_written_anew() -> None:
    found = read_molecules(["OCC", "C(C)O", "c1ccccc1CC", "C1CC", "", "CC(C)(C)(C)C"], 5, 0)
    assert found.smiles[:3] == ["CCO", "CCO", "CCc1ccccc1"]
    assert found.scaffolds[:3] == ["CCO", "CCO", "c1ccccc1"]
    assert sorted(found.reasons) == [3, 4, 5]
    assert found.reasons[4] == "no SMILES"
    assert found.reasons[3] == "'C1CC' is no molecule"
    for smiles, variants in zip(found.smiles, found.variants, strict=True):
        assert smiles not in variants
        assert len(set(variants)) == len(variants)
        if variants:
            assert set(read_molecules(variants, 0, 0).smiles) == {smiles}
    assert read_molecules(["c1ccccc1CC"], 5, 0).variants[0] == found.variants[2]


def test_a_corpus_of_tokens_gives_its_molecules_back(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, ["Clc1ccccc1", "no molecule", "[13CH4]"], augment=3)
    texts = [corpus.text(i) for i in range(len(corpus))]
    assert texts[0] == "Clc1ccccc1"
    assert "[13CH4]" in texts
    assert corpus.info["molecules"] == 2
    assert corpus.info["skipped"] == 1
    assert "2 molecules in" in corpus.lines()[0]
    first = corpus.rows[:] == corpus.rows[0]
    assert {read_molecules([t], 0, 0).smiles[0] for t in np.array(texts)[first]} == {texts[0]}


def test_a_scaffold_is_held_out_whole(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, molecules(), augment=2)
    parts = split_parts(corpus, None, 0.3, 0.5, 0)
    held = {read_molecules([corpus.text(i)], 0, 0).scaffolds[0] for i in parts.held_out.tolist()}
    left = {read_molecules([corpus.text(i)], 0, 0).scaffolds[0] for i in parts.train.tolist()}
    assert held
    assert not held & left
    assert "scaffolds" in parts.lines[0]


def test_no_way_of_writing_a_validation_molecule_is_trained_on(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, molecules(), augment=4)
    valid = corpus_of(tmp_path, ["Cc1ccccc1", "OC1CCCCC1"], name="valid")
    copies = copies_of(corpus, valid)
    canonical = [read_molecules([corpus.text(i)], 0, 0).smiles[0] for i in range(len(corpus))]
    same = np.isin(canonical, ["Cc1ccccc1", "OC1CCCCC1"])
    assert same.sum() > 2
    np.testing.assert_array_equal(copies, same)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [[text] for text in [*molecules(), "C1CC", "broken"]]
    return write_table(tmp_path_factory.mktemp("molecules") / "molecules.csv", ["SMILES"], rows)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    out = folder / "run"
    valid = write_table(folder / "valid.csv", ["smiles"], [[text] for text in molecules()[::6]])
    options = ("--kind", "molecule", "--augment", 2, "--epochs", 30, "--valid", valid)
    assert call("pretrain", table, "--out", out, *SMALL, *options) == 0
    return out


def test_a_run_leaves_a_molecule_encoder(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["kind"] == "molecule"
    assert metrics["model"]["perplexity"] < metrics["baselines"]["unigram"]["perplexity"]
    assert set(metrics["baselines"]) == {"unigram", "kmer"}
    encoder = mt.load(run)
    assert isinstance(encoder.tokenizer, SmilesTokenizer)
    embedded = encoder.embed(["CCO", "c1ccccc1"])
    assert embedded.shape == (2, 16)
    assert np.isfinite(embedded).all()
    with (run / "skipped.csv").open() as stream:
        reasons = {row["row"]: row["reason"] for row in csv.DictReader(stream)}
    first = len(molecules()) + 2
    assert reasons == {
        str(first): "'C1CC' is no molecule",
        str(first + 1): "'broken' is no molecule",
    }
    card = (run / "README.md").read_text()
    assert "- molecule" in card
    assert "residue" not in card
    assert "residue" not in metrics["verdict"]


def test_transformers_reads_a_run(run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    model = transformers.EsmForMaskedLM.from_pretrained(run).eval()
    tokens, _ = SmilesTokenizer().encode(["CC(=O)Oc1ccccc1"])
    with torch.no_grad():
        theirs = model(torch.tensor(tokens[None].astype(np.int64))).logits[0].numpy()
    np.testing.assert_allclose(
        mt.load(run).logits(["CC(=O)Oc1ccccc1"])[0], theirs, rtol=1e-4, atol=1e-4
    )


def test_a_run_goes_on_from_a_molecule_model_without_being_told(
    run: Path, table: Path, tmp_path: Path
) -> None:
    options = ("--backbone", run, "--longest", 40, "--batch-tokens", 256, "--steps", 2)
    assert call("pretrain", table, "--out", tmp_path / "more", *options, "--holdout", 0.2) == 0
    assert json.loads((tmp_path / "more" / "metrics.json").read_text())["kind"] == "molecule"


def test_the_same_seed_gives_the_same_bytes(table: Path, tmp_path: Path) -> None:
    options = ("--kind", "molecule", "--augment", 2, "--steps", 3, "--holdout", 0.2)
    for name in ("a", "b"):
        assert call("pretrain", table, "--out", tmp_path / name, *SMALL, *options) == 0
    weights = [contents(tmp_path / name)["model.safetensors"] for name in ("a", "b")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--kind", "protein", "--augment", 1), "--augment 1 is for molecules"),
        (("--augment", 1), "--augment 1 is for molecules"),
        (("--kind", "molecule", "--augment", -1), "--augment is -1"),
        (("--kind", "molecule", "--sequence", "smile"), "no column 'smile'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple, said: str
) -> None:
    arguments = ("pretrain", table, "--out", tmp_path / "run", *SMALL, *options)
    assert said in one_error(capsys, *arguments)
    assert not (tmp_path / "run").exists()


def test_a_fasta_file_holds_no_molecules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAK\n")
    arguments = (tmp_path / "a.fasta", "--kind", "molecule", "--out", tmp_path / "run", *SMALL)
    assert "column of SMILES" in one_error(capsys, "pretrain", *arguments)
