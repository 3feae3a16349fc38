"""`moltide pretrain --kind rna`: nucleotides as files spell them, in a format that is published."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call, one_error
from pretraining_files import SMALL, write_fasta
from tiny_runs import contents, write_table

import moltide as mt
from moltide._engine import Model
from moltide.encoder import Encoder
from moltide.pretrained import rnafm
from moltide.pretraining import PretrainOptions, pretrain
from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.neighbours import fit_neighbours
from moltide.pretraining.reading import Columns
from moltide.pretraining.symbols import Symbols
from moltide.pretraining.windows import hide
from moltide.random_init import randomise
from moltide.tokenization.nucleotides import (
    CODON_VOCABULARY,
    ESM_NUCLEOTIDES,
    RNA_VOCABULARY,
    NucleotideTokenizer,
    is_nucleotide_vocabulary,
)
from moltide.tokenizer import ESM_VOCABULARY

RNA = NucleotideTokenizer(ESM_NUCLEOTIDES, published_as="EsmTokenizer")

RNA_FM = {
    "model_type": "rnafm",
    "architectures": ["RnaFmForMaskedLM"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
    "vocab_size": len(RNA_VOCABULARY),
}


def repeats(n: int, seed: int = 0) -> list[str]:
    """Runs of a motif of four letters each, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.permutation(list("ACGU"))) * int(rng.integers(8, 12)) for _ in range(n)]


def corpus_of(path: Path, columns: Columns | None = None, shortest: int = 1) -> Corpus:
    wanted = columns or Columns(kind="rna")
    folder = path.parent / "corpora"
    return open_corpus([path], [sha256_of(path)], wanted, Symbols(RNA), folder, shortest=shortest)


def test_a_vocabulary_of_nucleotides_is_known() -> None:
    assert is_nucleotide_vocabulary(ESM_NUCLEOTIDES)
    assert is_nucleotide_vocabulary(RNA_VOCABULARY)
    assert not is_nucleotide_vocabulary(ESM_VOCABULARY)
    assert not is_nucleotide_vocabulary(CODON_VOCABULARY)


def test_nucleotides_are_read_as_files_spell_them(tmp_path: Path) -> None:
    """Lower case, DNA's letters, line breaks, gaps, IUPAC's letters; what is none is named."""
    texts = ["ACGUACGU", "acgtacgt", "AC-GU ACGT", "NRYACGUU", "ACGEACGU", "ACGT*", "", "ACG"]
    path = tmp_path / "a.fasta"
    path.write_text("".join(f">r{i}\n{text}\n" for i, text in enumerate(texts)))
    corpus = corpus_of(path, shortest=4)
    assert [corpus.text(i) for i in range(len(corpus))] == ["ACGUACGU"] * 3 + ["NRYACGUU"]
    rows = list(csv.DictReader(corpus.skipped_csv().splitlines()))
    assert {row["name"]: row["reason"] for row in rows} == {
        "r4": "'E' at position 4 is no nucleotide",
        "r5": "'*' at position 5 is no nucleotide",
        "r6": "no sequence",
        "r7": "3 nucleotides, fewer than 4 (shortest)",
    }
    said = "; ".join(corpus.lines())
    assert "4 sequences, 32 nucleotides" in said
    assert "sequences with T, read as U: 2" in said
    assert "rare nucleotides (N R Y S W K M B D H V I X), kept: 1" in said


def test_tables_of_nucleotides_are_found_by_their_cells(tmp_path: Path) -> None:
    rows = [[f"gene{i}", text.replace("U", "T"), "(" * 8, i] for i, text in enumerate(repeats(9))]
    table = write_table(tmp_path / "a.csv", ["gene", "orf", "structure", "n"], rows)
    corpus = corpus_of(table)
    assert [corpus.text(i) for i in range(len(corpus))] == repeats(9)


def test_only_the_four_nucleotides_are_hidden(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "a.fasta", ["ACGUNNNNRYACGU" * 3] * 40)
    corpus = corpus_of(path)
    windows = hide(corpus, np.arange(40), 100, 0.5, 0)
    letters = np.concatenate([windows.letters(i) for i in range(len(windows))])
    hidden = {RNA.vocabulary[i] for i in letters[windows.hidden]}
    assert hidden == set("ACGU")
    model = fit_neighbours(corpus, np.arange(40), 0.15, 0)
    assert model.frequencies.shape == (4,)
    perplexities = model.perplexities(windows)
    assert perplexities["unigram"] == pytest.approx(4, rel=0.01)
    assert perplexities["kmer"] < 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rna")
    train = write_fasta(folder / "train.fasta", [one.replace("U", "T") for one in repeats(150)])
    valid = write_fasta(folder / "valid.fasta", [one + "ACG" for one in repeats(20, seed=1)])
    out = folder / "run"
    options = ("--kind", "rna", "--epochs", 12, "--valid", valid)
    assert call("pretrain", train, "--out", out, *SMALL, *options) == 0
    return out


def test_a_run_leaves_an_encoder_of_rna(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["kind"] == "rna"
    assert metrics["model"]["perplexity"] < metrics["baselines"]["unigram"]["perplexity"] < 4.1
    encoder = mt.load(run)
    assert encoder.tokenizer == RNA
    assert encoder.tokenizer.kind == "rna"
    np.testing.assert_array_equal(*encoder.embed(["ACGUN", "acgtn"]))
    card, page = (run / "README.md").read_text(), (run / "report.html").read_text()
    assert "- rna" in card
    assert "Transformers' tokenizer wants upper case and U" in card
    assert "nucleotide frequencies" in metrics["verdict"]
    assert "nucleotide frequencies" in card
    for text in (card, page, metrics["verdict"]):
        assert "residue" not in text


def test_transformers_reads_a_run(run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    assert type(tokenizer).__name__ == "EsmTokenizer"
    model = transformers.EsmForMaskedLM.from_pretrained(run).eval()
    text = "ACGUNRYACG<mask>GUACGIX"
    ids = tokenizer(text, return_tensors="pt")
    assert ids["input_ids"][0].tolist() == RNA.encode([text])[0].tolist()
    with torch.no_grad():
        theirs = model(**ids).logits[0].numpy()
    np.testing.assert_allclose(mt.load(run).logits([text])[0], theirs, rtol=1e-4, atol=1e-4)


def test_an_encoder_of_rna_saves_as_it_was_read(run: Path, tmp_path: Path) -> None:
    mt.load(run).save(tmp_path / "again")
    for name in ("vocab.txt", "tokenizer_config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_a_run_goes_on_from_a_model_of_rna_without_being_told(run: Path, tmp_path: Path) -> None:
    options = ("--backbone", run, "--longest", 40, "--batch-tokens", 256, "--steps", 2)
    out, train = tmp_path / "more", run.parent / "train.fasta"
    assert call("pretrain", train, "--out", out, *options, "--holdout", 0.2) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["kind"] == "rna"
    said = json.loads((out / "training.json").read_text())["data"]
    assert "clusters at 80% identity" in said[-1]


def published(folder: Path, **changes: Any) -> Path:
    """A random RNA-FM as it is published."""
    given = {**RNA_FM, **changes}
    config = dict(rnafm.config_from_published(given, "test").config)
    model = Model(config, "float32")
    randomise(model, 0)
    codon = bool(changes.get("codon"))
    tokenizer = NucleotideTokenizer(CODON_VOCABULARY if codon else RNA_VOCABULARY, codon=codon)
    Encoder(model, tokenizer, family="rnafm", published=given).save(folder)
    return folder


def test_a_published_model_goes_on_in_its_own_format(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--longest", 40, "--batch-tokens", 256, "--steps", 2, "--holdout", 0.2)
    out, train = tmp_path / "more", run.parent / "train.fasta"
    backbone = published(tmp_path / "rnafm")
    assert call("pretrain", train, "--out", out, "--backbone", backbone, *options) == 0
    assert json.loads((out / "config.json").read_text())["architectures"] == ["RnaFmForMaskedLM"]
    assert "in the layout of `RnaFmForMaskedLM`" in (out / "README.md").read_text()
    before, after = mt.load(backbone).logits(["ACGU"])[0], mt.load(out).logits(["acgt"])[0]
    assert np.abs(before - after).max() > 0
    codons = published(tmp_path / "codons", codon=True, vocab_size=len(CODON_VOCABULARY))
    given = ("--backbone", codons, *options)
    said = one_error(capsys, "pretrain", train, "--out", tmp_path / "c", *given)
    assert "reads codons; moltide pretrains models of single nucleotides" in said
    shape = ("--kind", "rna", "--config", backbone)
    said = one_error(capsys, "pretrain", train, "--out", tmp_path / "c", *shape)
    assert "describes a 'rnafm' model; new ones have the layout 'esm'" in said


def test_the_same_seed_gives_the_same_bytes_from_python(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        options = PretrainOptions(
            train=[run.parent / "train.fasta"],
            out=tmp_path / name,
            kind="rna",
            layers=1,
            width=16,
            heads=2,
            longest=40,
            batch_tokens=256,
            steps=3,
            holdout=0.2,
        )
        assert pretrain(options).metrics["kind"] == "rna"
    weights = [contents(tmp_path / name)["model.safetensors"] for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_what_is_no_rna_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, out = run.parent / "train.fasta", tmp_path / "run"
    said = one_error(
        capsys, "pretrain", train, "--out", out, "--backbone", run, "--kind", "protein"
    )
    assert "--kind is 'protein'; " in said
    assert "reads RNA" in said
    arguments = ("--out", out, *SMALL, "--kind", "rna")
    said = one_error(capsys, "pretrain", train, *arguments, "--augment", 2)
    assert "--augment 2 is for molecules" in said
    proteins = write_fasta(tmp_path / "p.fasta", ["MKTAYIAKQRQISFVKSHF"] * 3)
    said = one_error(capsys, "pretrain", proteins, *arguments)
    assert "'E'" not in said
    assert "is no nucleotide" in said
    table = write_table(tmp_path / "t.csv", ["sequence"], [["MKTAYIAKQRQISFVKSHF"]] * 3)
    assert "no column of nucleotides" in one_error(capsys, "pretrain", table, *arguments)
    assert not out.exists()
