"""Uni-Mol checkpoints: parity with unimol_tools, the layouts they are published in, saving."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import call, one_error
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from safetensors.numpy import load_file, save_file
from tiny_runs import write_table

import moltide
from moltide.errors import CheckpointError, ConfigError
from moltide.pretrained import unimol

TINY = Path(__file__).parent.parent / "data" / "unimol_tiny"
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccsc1")
SMILES = ["CCO", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "C"]


@pytest.fixture(scope="module")
def golden():
    return load_file(TINY / "golden.safetensors")


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny checkpoint, to be changed."""
    for name in ("config.json", "mol.dict.txt", "model.safetensors"):
        shutil.copy(TINY / name, tmp_path / name)
    return tmp_path


def configure(folder, **changes):
    path = folder / "config.json"
    document = json.loads(path.read_text())
    for key, value in changes.items():
        document.pop(key) if value is None else document.update({key: value})
    path.write_text(json.dumps(document))


def molecules(golden):
    """The golden molecules as RDKit's, with their conformers."""
    ends = np.cumsum(golden["lengths"])
    made = []
    for symbols, end, length in zip(
        json.loads((TINY / "molecules.json").read_text()), ends, golden["lengths"], strict=True
    ):
        mol, places = Chem.RWMol(), Chem.Conformer(len(symbols))
        for i, symbol in enumerate(symbols):
            mol.AddAtom(Chem.Atom(symbol))
            places.SetAtomPosition(i, golden["coordinates"][end - length + 1 + i].tolist())
        places.Set3D(True)
        mol.AddConformer(places)
        made.append(mol)
    return made


def near(actual, wanted, relative=1e-4):
    assert np.abs(actual - wanted).max() <= relative * np.abs(wanted).max()


def test_parity_with_unimol_tools(golden):
    encoder = moltide.load(TINY)
    given = molecules(golden)
    with pytest.warns(UserWarning, match="Xe outside the vocabulary"):
        rows = encoder.embed(given, pool=None)
    ends = np.cumsum(golden["lengths"])
    for row, end, length in zip(rows, ends, golden["lengths"], strict=True):
        near(row, golden["hidden"][end - length + 1 : end - 1])
    cls = encoder.embed(given, pool="cls", on_illegal="unknown")
    near(cls, golden["hidden"][ends - golden["lengths"]])
    logits = np.concatenate(encoder.logits(given, on_illegal="unknown"))
    near(logits, golden["logits"])
    assert encoder.tokenizer.kind == "molecule"


def test_smiles_alone_and_together():
    encoder = moltide.load(TINY)
    together = encoder.embed(SMILES)
    assert together.shape == (4, 32)
    for i, smiles in enumerate(SMILES):
        np.testing.assert_array_equal(encoder.embed([smiles]), together[i : i + 1])
    np.testing.assert_array_equal(encoder.embed(SMILES, batch_tokens=1), together)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.embed(SMILES), together)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_narrow_types(dtype):
    exact = moltide.load(TINY).embed(SMILES)
    narrow = moltide.load(TINY, dtype=dtype)
    error = np.linalg.norm(narrow.embed(SMILES) - exact) / np.linalg.norm(exact)
    assert error < (0.02 if dtype == "bf16" else 0.2)
    if dtype == "int8":
        assert narrow.int8_cost(SMILES).relative_error < 0.2


def test_saved_as_published(tmp_path):
    encoder = moltide.load(TINY)
    encoder.save(tmp_path)
    before, after = (load_file(f / "model.safetensors") for f in (TINY, tmp_path))
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    again = moltide.load(tmp_path)
    assert again.tokenizer == encoder.tokenizer
    np.testing.assert_array_equal(again.embed(SMILES), encoder.embed(SMILES))


def test_a_head_is_saved_as_unimol_tools_has_it(tmp_path):
    encoder = moltide.load(TINY)
    encoder.set_head({"pool": "cls", "outputs": 3}, seed=2)
    encoder.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["classification_head.out_proj.weight"].shape == (3, 32)
    assert "lm_head.weight" not in stored
    again = moltide.load(tmp_path)
    np.testing.assert_array_equal(again.predict(SMILES), encoder.predict(SMILES))


def test_adapters_round_trip(tmp_path):
    encoder = moltide.load(TINY)
    encoder.add_adapter("a", rank=2, targets=["attn.q", "attn.v", "attn.out", "mlp.up"], seed=1)
    rng = np.random.default_rng(0)
    for name, shape in encoder.model.parameters():
        if name.endswith("lora_b"):
            encoder.model.set_parameter(name, rng.normal(0, 0.2, shape).astype(np.float32))
    adapted = encoder.embed(SMILES, adapter="a")
    assert np.abs(adapted - encoder.embed(SMILES)).max() > 0.1
    encoder.save_adapter("a", tmp_path)
    fresh = moltide.load(TINY)
    fresh.load_adapter(tmp_path, "b")
    np.testing.assert_array_equal(fresh.embed(SMILES, adapter="b"), adapted)
    fresh.merge_adapter("b")
    near(fresh.embed(SMILES), adapted)


def test_ids_of_the_dictionary_unless_the_config_says_others(folder):
    tools = moltide.load(folder).tokenizer
    assert tools.vocabulary[:5] == ("[CLS]", "[UNK]", "[PAD]", "[SEP]", "C")
    configure(folder, bos_token_id=None)
    listed = moltide.load(folder).tokenizer
    assert listed.vocabulary[:5] == ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "C")
    assert (listed.cls_id, listed.eos_id, listed.mask_id) == (1, 2, 30)
    moltide.load(folder).save(folder / "saved")
    assert moltide.load(folder / "saved").tokenizer == listed


def test_hydrogens_and_seed_come_from_the_config(folder):
    configure(folder, remove_hs=True, conformer_seed=7)
    encoder = moltide.load(folder)
    assert [len(rows) for rows in encoder.embed(SMILES, pool=None)] == [3, 7, 11, 1]
    assert encoder.tokenizer.conformers.seed == 7
    assert np.abs(encoder.embed(SMILES) - moltide.load(TINY).embed(SMILES)).max() > 1e-3


@pytest.mark.parametrize("name", ["mol_pre_all_h_220816.pt", "mol_pre_no_h_220816.pt"])
def test_weights_published_without_a_config(tmp_path, monkeypatch, name):
    """The published files, whose sizes are known (here, those of a tiny one)."""
    torch = pytest.importorskip("torch", reason="writes a PyTorch file")
    known = unimol.BARE_WEIGHTS[name]
    config = unimol.config_from_published(known, name).config
    assert (config["width"], config["heads"], config["layers"]) == (512, 64, 15)
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    tiny = json.loads((TINY / "config.json").read_text())
    monkeypatch.setitem(
        unimol.BARE_WEIGHTS, name, {**known, **{size: tiny[size] for size in sizes}}
    )
    weights = load_file(TINY / "model.safetensors")
    tensors = {key: torch.from_numpy(values) for key, values in weights.items()}
    torch.save({"model": tensors, "args": None}, tmp_path / name)
    shutil.copy(TINY / "mol.dict.txt", tmp_path / "dict.txt")
    encoder = moltide.load(tmp_path)
    assert encoder.tokenizer.remove_hydrogens == ("no_h" in name)
    assert encoder.config["heads"] == 4
    assert encoder.tokenizer.vocabulary[:4] == ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    encoder.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        moltide.load(tmp_path / "saved").embed(SMILES), encoder.embed(SMILES)
    )


def test_regression_learns_from_smiles(tmp_path):
    """Through the dataset, the head and LoRA; what is saved predicts the same."""
    from moltide import _engine
    from moltide.conformers import coordinates_of
    from moltide.training.data import tokenize

    encoder = moltide.load(TINY)
    smiles = ["C" * n + "O" for n in range(1, 9)]
    targets = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    encoder.set_head({"pool": "cls", "outputs": 1}, seed=1)
    encoder.add_adapter("a", rank=4, seed=1)
    tokens, offsets = tokenize(encoder, smiles)
    trainer = _engine.Trainer(
        encoder.model,
        {"objective": "mse", "mode": "lora", "adapter": "a", "lr": 0.01, "schedule": "constant"},
    )
    trainer.set_dataset(tokens, offsets, targets, coordinates=coordinates_of(tokens))
    losses = [trainer.step(np.arange(8))["loss"] for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    del trainer
    found = encoder.predict(smiles, adapter="a")
    assert np.corrcoef(found[:, 0], targets[:, 0])[0, 1] > 0.9


def test_finetune_names_rows_without_a_conformer(tmp_path, capsys, monkeypatch):
    """From a table to a run: what is laid out flat or unknown is listed by its row."""
    made = rdDistGeom.EmbedMolecule
    monkeypatch.setattr(
        rdDistGeom,
        "EmbedMolecule",
        lambda mol, **how: -1 if "Br" in Chem.MolToSmiles(mol) else made(mol, **how),
    )
    smiles = [f"{'C' * n}{link}{ring}" for n in range(4) for link in "NO" for ring in RINGS]
    rows = [*smiles[:10], "CCBr", "C[Te]CC", *smiles[10:]]
    table = write_table(
        tmp_path / "t.csv",
        ["smiles", "y"],
        [[one, len(one) + i / 10] for i, one in enumerate(rows)],
    )
    options = ("--backbone", TINY, "--split", "random", "--epochs", 1, "--no-learning-curve")
    assert call("finetune", table, "--out", tmp_path / "run", *options) == 0
    said = " ".join(capsys.readouterr().out.split())
    flat = "laid out flat, as the published pipeline does: RDKit found no conformer"
    assert f"{flat} that fits its distances (row 12)" in said
    assert "Te outside the vocabulary" in said
    remarks = json.loads((tmp_path / "run" / "config.json").read_text())["remarks"]
    assert sorted(remarks.values()) == [[12], [13], [13]]
    assert flat in (tmp_path / "run" / "report.html").read_text()
    model = moltide.load_assay_model(tmp_path / "run")
    values = model.predict(["c1ccccc1CC", "CCc1ccccc1"])
    assert np.isfinite(values).all()
    assert values[0] == values[1]


def test_what_reads_text_alone_is_refused(tmp_path, capsys):
    with pytest.raises(ConfigError, match="reads molecules in space; scores are of residues"):
        moltide.load(TINY).score_variants("CCO", ["C1N"])
    table = write_table(tmp_path / "t.csv", ["smiles"], [[one] for one in SMILES])
    said = one_error(capsys, "pretrain", table, "--out", tmp_path / "run", "--backbone", TINY)
    assert "reads molecules in space; moltide pretrains models of text alone" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_type": "protein"}, "data_type is 'protein'; allowed: molecule"),
        ({"activation_fn": "relu"}, "activation_fn is 'relu'; allowed: gelu"),
        ({"num_attention_heads": 16}, "num_attention_heads is 16; allowed: hidden_size 32 / heads"),
        ({"vocab_size": 32}, "31 tokens with .* says vocab_size 32"),
        ({"pad_token_id": 9}, r"special tokens the ids \[0, 1, 3, 9\]; allowed are 0 to 3"),
        ({"conformer_mode": "slow"}, "conformer_mode is 'slow'; allowed: fast, heavy"),
        ({"num_hidden_layers": 2}, "config.json says 2 layers, the weights hold 3"),
    ],
)
def test_refuses(folder, changes, message):
    if "vocab_size" in changes:
        weights = load_file(folder / "model.safetensors")
        weights["embed_tokens.weight"] = np.zeros((32, 32), np.float32)
        weights["gbf.mul.weight"] = weights["gbf.bias.weight"] = np.ones((1024, 1), np.float32)
        weights["lm_head.weight"] = np.zeros((32, 32), np.float32)
        weights["lm_head.bias"] = np.zeros(32, np.float32)
        save_file(weights, folder / "model.safetensors")
    configure(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        moltide.load(folder)


def test_refuses_without_a_dictionary(folder):
    (folder / "mol.dict.txt").unlink()
    with pytest.raises(CheckpointError, match=r"no dictionary; looked for dict.txt, mol.dict.txt"):
        moltide.load(folder)
