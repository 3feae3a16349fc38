"""`moltide pretrain --kind molecule`: SMILES, other ways of writing them, scaffolds held out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import call, one_error
from pretraining_files import SMALL
from tiny_runs import contents, wait_for_log, write_table

import moltide as mt
from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.descriptor_targets import DescriptorTargets
from moltide.pretraining.descriptors import COUNT, descriptors
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


def corpus_of(
    folder: Path,
    smiles: list[str],
    augment: int = 0,
    name: str = "table",
    with_descriptors: bool = False,
) -> Corpus:
    table = write_table(folder / f"{name}.csv", ["smiles"], [[text] for text in smiles])
    columns = Columns(kind="molecule", augment=augment, descriptors=with_descriptors)
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


def test_descriptors_are_those_of_rdkit_and_scaled_alike(tmp_path: Path) -> None:
    from rdkit import Chem
    from rdkit.Chem import Crippen, rdMolDescriptors

    names = list(rdMolDescriptors.Properties().GetPropertyNames())
    molecule = Chem.MolFromSmiles("CCc1ccccc1")
    values = descriptors(molecule)
    assert values.shape == (COUNT,)
    assert values[names.index("CrippenClogP")] == pytest.approx(Crippen.MolLogP(molecule))
    corpus = corpus_of(tmp_path, molecules(), augment=2, with_descriptors=True)
    assert corpus.descriptors.shape == (len(molecules()), COUNT)
    targets = DescriptorTargets(corpus, np.arange(len(corpus)))
    scores = targets.of_molecules(corpus, np.arange(len(molecules())))
    used = ~np.isnan(scores).all(axis=0)
    assert 20 < used.sum() < COUNT
    np.testing.assert_allclose(scores[:, used].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scores[:, used].std(axis=0), 1, atol=1e-4)
    # Every SMILES of a molecule has its descriptors, a piece of one has none.
    begins, lengths = np.asarray(corpus.offsets[:-1]), np.diff(corpus.offsets)
    each = targets.of_windows(corpus, begins, lengths)
    np.testing.assert_array_equal(each, scores[corpus.molecule_of])
    assert np.isnan(targets.of_windows(corpus, begins[:3], lengths[:3] - 1)).all()


def test_descriptors_are_learned_beside_tokens(run: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--kind", "molecule", "--augment", 2, "--epochs", 30, "--descriptors", "--keep")
    valid = run.parent / "valid.csv"
    arguments = ("pretrain", table, "--out", out, *SMALL, *options, "last", "--valid", valid)
    assert call(*arguments) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    found = metrics["descriptors"]
    assert 0.1 < found["model"]["r2"] <= 1
    assert found["baselines"]["token_counts"]["r2"] <= 1
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    curve = [row["valid_descriptors_r2"] for row in rows if "valid_perplexity" in row]
    assert curve[-1] > curve[0]
    card = (out / "README.md").read_text()
    assert f"R2 of {COUNT} RDKit descriptors" in card
    assert mt.load(out).head is None


def test_a_killed_run_with_descriptors_goes_on_to_the_same_bits(
    table: Path, tmp_path: Path
) -> None:
    options = ("--kind", "molecule", "--descriptors", "--steps", 120, "--save-every", 7)

    def arguments(name: str) -> list[str]:
        given = (table, *SMALL, *options, "--holdout", 0.2, "--valid-every", 30)
        return [str(one) for one in ("pretrain", *given, "--out", tmp_path / name)]

    assert call(*arguments("whole")) == 0
    command = [sys.executable, "-u", "-m", "moltide", *arguments("parts")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_log(tmp_path / "parts", process, 4)
    process.kill()
    process.communicate()
    assert call(*arguments("parts")) == 0
    for name in ("model.safetensors", "metrics.json"):
        assert contents(tmp_path / "parts")[name] == contents(tmp_path / "whole")[name], name


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
        (("--descriptors",), "--descriptors is for molecules (--kind molecule)"),
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
