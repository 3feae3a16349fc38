"""Uni-Mol2 checkpoints: categories and values of unimol_tools, the published layout, saving."""

from __future__ import annotations

import json
import pickle
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from safetensors.numpy import load_file, save_file

import moltide
from moltide.conformers import coordinates_of, joined
from moltide.conformers.graph import graph_of
from moltide.errors import CheckpointError, ConfigError, DataError
from moltide.pretrained import unimol2
from moltide.tokenization.molecule_graphs import (
    ELEMENT_VOCABULARY,
    MoleculeGraphTokenizer,
    pair_categories,
    token_categories,
)

TINY = Path(__file__).parent.parent / "data" / "unimol2_tiny"
BLOCKS = json.loads((TINY / "molecules.json").read_text())
SMILES = ["CCO", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "C"]


@pytest.fixture(scope="module")
def golden():
    return load_file(TINY / "golden.safetensors")


@pytest.fixture
def folder(tmp_path):
    """A copy of the tiny checkpoint, to be changed."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(TINY / name, tmp_path / name)
    return tmp_path


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def near(actual, wanted, relative=1e-4):
    assert np.abs(actual - wanted).max() <= relative * np.abs(wanted).max()


# ---- what the model reads ------------------------------------------------------------------------


def test_categories_of_unimol_tools(golden):
    tokens, cu = MoleculeGraphTokenizer().encode(BLOCKS)
    where, of_tokens, of_pairs = coordinates_of(tokens)
    assert where.shape == (len(tokens), 3)
    first = 0
    for i, (begin, end) in enumerate(pairwise(cu)):
        n = end - begin
        own = of_tokens[begin:end]
        pairs = of_pairs[first : first + n * n].reshape(n, n, 5)
        first += n * n
        np.testing.assert_array_equal(own[1:, :8], golden[f"{i}.atom_feat"])
        np.testing.assert_array_equal(own[1:, 8], golden[f"{i}.degree"])
        np.testing.assert_array_equal(pairs[1:, 1:, 0], golden[f"{i}.shortest_path"])
        np.testing.assert_array_equal(pairs[1:, 1:, 1:4], golden[f"{i}.edge_feat"])
        assert own[0].tolist() == [*[-1] * 9, 0]
        assert (pairs[0] == pairs[:, 0]).all()
        assert pairs[0, 0].tolist() == [-1, -1, -1, -1, 0]
        assert (own[1:, 9] == -1).all()
        assert (pairs[1:, 1:, 4] == -1).all()
    assert first == len(of_pairs)


def test_categories_by_hand():
    graph = graph_of(Chem.MolFromSmiles("C=O.[Na+]"))
    assert graph.atoms[:, 1:4].tolist() == [[3, 5, 2], [1, 5, 0], [0, 6, 0]]
    assert graph.paths.tolist() == [[0, 1, 510], [1, 0, 510], [510, 510, 0]]
    assert graph.bonds.tolist() == [[0, 1, 1, 0, 0]]
    assert token_categories(graph)[:, 8].tolist() == [-1, 3, 3, 2]
    pairs = pair_categories(graph).reshape(4, 4, 5)
    assert pairs[1, 2].tolist() == pairs[2, 1].tolist() == [2, 5, 20, 36, -1]
    assert pairs[1, 3].tolist() == [511, 2, 2, 2, -1]


def test_rare_categories_fall_together():
    graph = graph_of(Chem.MolFromSmiles("[Fe+7]"))
    assert graph.atoms[0, 2] == 11
    assert len(graph.bonds) == 0
    assert pair_categories(graph)[3].tolist() == [1, 2, 2, 2, -1]


def test_tokens():
    tokenizer = MoleculeGraphTokenizer()
    assert (len(tokenizer), tokenizer.trail) == (128, 0)
    assert [ELEMENT_VOCABULARY[i] for i in (0, 1, 6, 53, 118, 127)] == [
        *("[PAD]", "H", "C", "I", "Og", "[MASK]")
    ]
    tokens, cu = tokenizer.encode(["CCO", "O"])
    assert tokens.tolist() == [0, 6, 6, 8, 0, 8]
    assert cu.tolist() == [0, 4, 6]
    again = joined([tokens, tokenizer.encode(["N"])[0]])
    assert again.tolist() == [*tokens.tolist(), 0, 7]
    assert coordinates_of(again)[2].shape == (16 + 4 + 4, 5)
    empty, cu = tokenizer.encode([])
    assert [len(part) for part in coordinates_of(empty)] == [0, 0, 0]
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    assert tokenizer != MoleculeGraphTokenizer(seed=1)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("[H][H]", "molecule 1: it has no atoms but hydrogen"),
        ("C*", r"molecule 1: it has a placeholder \(\*\) in place of an atom"),
        ("C(", "molecule 1: 'C\\(' is no SMILES"),
    ],
)
def test_what_is_no_molecule(smiles, message):
    with pytest.raises(DataError, match=message):
        MoleculeGraphTokenizer().encode(["C", smiles])


# ---- the model -----------------------------------------------------------------------------------


def test_parity_with_unimol_tools(golden):
    encoder = moltide.load(TINY)
    for i, atoms in enumerate(encoder.embed(BLOCKS, pool=None)):
        near(atoms, golden[f"{i}.hidden"][1:])
    near(encoder.embed(BLOCKS, pool="cls")[2], golden["2.hidden"][0])
    near(encoder.embed(BLOCKS)[1], golden["1.hidden"][1:].mean(axis=0))
    assert encoder.tokenizer.kind == "molecule"


def test_smiles_alone_and_together():
    encoder = moltide.load(TINY)
    together = encoder.embed(SMILES)
    assert together.shape == (4, 16)
    for i, smiles in enumerate(SMILES):
        np.testing.assert_array_equal(encoder.embed([smiles]), together[i : i + 1])
    np.testing.assert_array_equal(encoder.embed(SMILES, batch_tokens=1), together)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.embed(SMILES), together)


def test_int8_cost():
    assert moltide.load(TINY, dtype="int8").int8_cost(SMILES).relative_error < 0.2


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
    np.testing.assert_array_equal(again.predict(SMILES), encoder.predict(SMILES))


def test_a_new_head_is_saved_in_the_published_names(tmp_path):
    encoder = moltide.load(TINY)
    encoder.set_head({"pool": "cls", "outputs": 3}, seed=2)
    encoder.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["classification_head.out_proj.weight"].shape == (3, 16)
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
    assert np.abs(adapted - encoder.embed(SMILES)).max() > 0.05
    encoder.save_adapter("a", tmp_path)
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert "self_attn.linear_q" in "".join(targets) or "linear_q" in targets
    fresh = moltide.load(TINY)
    fresh.load_adapter(tmp_path, "b")
    np.testing.assert_array_equal(fresh.embed(SMILES, adapter="b"), adapted)
    fresh.merge_adapter("b")
    near(fresh.embed(SMILES), adapted)


def test_weights_published_without_a_config(tmp_path, monkeypatch):
    """modelzoo/84M/checkpoint.pt alone: its sizes are known (here, of a tiny one)."""
    torch = pytest.importorskip("torch", reason="writes a PyTorch file")
    name = "modelzoo/84M/checkpoint.pt"
    known = unimol2.BARE_WEIGHTS[name]
    config = unimol2.config_from_published(known, name).config
    assert (config["width"], config["heads"], config["layers"]) == (768, 48, 12)
    document = json.loads((TINY / "config.json").read_text())
    monkeypatch.setitem(unimol2.BARE_WEIGHTS, name, {**document, **known})
    weights = load_file(TINY / "model.safetensors")
    (tmp_path / "modelzoo" / "84M").mkdir(parents=True)
    tensors = {key: torch.from_numpy(values) for key, values in weights.items()}
    torch.save({"model": tensors, "args": None}, tmp_path / name)
    want = moltide.load(TINY).embed(SMILES)
    np.testing.assert_array_equal(moltide.load(tmp_path).embed(SMILES), want)
    (tmp_path / "modelzoo" / "84M" / "checkpoint.pt").rename(tmp_path / "checkpoint.pt")
    shutil.copy(TINY / "config.json", tmp_path / "config.json")
    np.testing.assert_array_equal(moltide.load(tmp_path).embed(SMILES), want)


def test_published_sizes():
    """Parameters of the encoders, near what their names say (heads of pretraining apart)."""
    from moltide.pretrained.shapes import parameter_shapes

    for size, millions in (("84m", 84), ("164m", 164), ("310m", 310), ("570m", 570)):
        config = unimol2.config_from_published({"model_size": size}, size).config
        count = sum(int(np.prod(shape)) for shape in parameter_shapes(config).values()) / 1e6
        assert count == pytest.approx(millions, rel=0.1), size


def test_the_row_that_nobody_reads(folder):
    """Id 0 is the first token's in the engine: a value there changes nothing, and is kept."""
    want = moltide.load(folder).embed(SMILES)
    weights = load_file(folder / "model.safetensors")
    weights["embed_tokens.weight"][0] = 7
    save_file(weights, folder / "model.safetensors")
    encoder = moltide.load(folder)
    np.testing.assert_array_equal(encoder.embed(SMILES), want)
    encoder.save(folder / "saved")
    stored = load_file(folder / "saved" / "model.safetensors")["embed_tokens.weight"]
    np.testing.assert_array_equal(stored, weights["embed_tokens.weight"])


def test_regression_learns_from_smiles():
    smiles = ["C" * n + "O" for n in range(1, 33)]
    for adapter in ("lora", "full"):
        model = moltide.AssayRegressor(
            backbone=str(TINY), adapter=adapter, epochs=30, validation_fraction=0.2, seed=1
        )
        model.fit(smiles, np.arange(32.0))
        assert np.corrcoef(model.predict(smiles), np.arange(32.0))[0, 1] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_size": "2B"}, "model_size is '2B'; allowed: 84m, 164m, 310m, 570m, 1.1B"),
        ({"activation_fn": "relu"}, "activation_fn is 'relu'; allowed: gelu"),
        ({"gaussian_std_width": 2.0}, "gaussian_std_width is 2.0"),
        ({"num_attention_heads": 8}, "num_attention_heads is 8; allowed: encoder_embed_dim 16"),
        ({"conformer_mode": "slow"}, "conformer_mode is 'slow'; allowed: fast, heavy"),
        ({"num_encoder_layers": 2}, "config.json says 2 layers, the weights hold 3"),
        ({"pair_embed_dim": 16}, r"has shape \[512, 12\], config.json says \[512, 16\]"),
    ],
)
def test_refuses(folder, changes, message):
    configure(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        moltide.load(folder)


def test_scores_are_of_residues():
    with pytest.raises(ConfigError, match="reads molecules in space; scores are of residues"):
        moltide.load(TINY).score_variants("CCO", ["C1N"])
