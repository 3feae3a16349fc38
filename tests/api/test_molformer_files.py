"""MoLFormer as published: config.json, tensors, tokenizer; loaded, saved, adapted, trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import moltide as mt
from comparison import assert_close
from molformer_models import published_config, random_tensors
from moltide.encoder import Encoder
from moltide.errors import CheckpointError, ConfigError
from moltide.kinds import MOLECULE
from reference.molformer import Molformer

# The first tokens of the published vocabulary, and its last.
VOCABULARY = [
    "<bos>", "<eos>", "<pad>", "<mask>", "C", "c", "(", ")", "1", "O", "N", "2", "=", "n",
    "3", "[C@H]", "[C@@H]", "F", "S", "4", "Cl", "-", "o", "s", "[nH]", "#", "/", "Br",
    "[C@]", "[C@@]", "[N+]", "[O-]", "5", "\\", ".", "I", "6", "[S@]", "[S@@]", "<unk>",
]  # fmt: skip
SPECIALS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "cls_token": "<bos>",
    "sep_token": "<eos>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
    "unk_token": "<unk>",
}
PATTERN = (
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>|\*|\$|"
    r"\%[0-9]{2}|[0-9])"
)
MOLECULES = ["CC(=O)Oc1ccccc1C(=O)O", "C", "C[C@H](N)C(=O)O", "Clc1ccc(Br)cc1", "O=C([O-])C<mask>C"]
HEAD = {"pool": "mean", "form": "skip", "hidden": 48, "outputs": 2}


def tokenizer_json() -> dict[str, Any]:
    """The published layout: words looked up after a regular expression, framed by two tokens."""

    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    body = {"Sequence": {"id": "A", "type_id": 0}}
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[t], "content": t, "special": True, **flags}
            for t in ("<bos>", "<eos>", "<pad>", "<mask>", "<unk>")
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": PATTERN},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("<bos>"), body, special("<eos>")],
            "pair": [special("<bos>"), body, special("<eos>")],
            "special_tokens": {
                t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("<bos>", "<eos>")
            },
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": "<unk>"},
    }


def write(folder: Path, head: dict[str, Any] | None = None, **fields: Any) -> dict[str, np.ndarray]:
    """A random checkpoint in the published file layout; returns its tensors."""
    name = "MolformerForMaskedLM" if head is None else "MolformerForSequenceClassification"
    config = published_config(**{"architectures": [name], "vocab_size": len(VOCABULARY), **fields})
    tensors = random_tensors(config, head)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    settings = {**SPECIALS, "tokenizer_class": "MolformerTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIALS))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return tensors


def exact(encoder: Encoder, tensors: dict[str, np.ndarray]) -> Molformer:
    return Molformer(encoder._published, tensors)


def ids_of(encoder: Encoder, smiles: str) -> np.ndarray:
    return encoder.tokenizer.encode([smiles])[0]


def test_published_checkpoint(tmp_path: Path) -> None:
    tensors = write(tmp_path)
    encoder = mt.load(tmp_path)
    assert encoder.tokenizer.kind == MOLECULE
    assert ids_of(encoder, "C[C@H](N)Cl").tolist() == [0, 4, 15, 6, 10, 7, 20, 1]
    assert ids_of(encoder, "C<mask>").tolist() == [0, 4, 3, 1]
    assert any("auto_map" in note and "not run" in note for note in encoder.notes)
    model = exact(encoder, tensors)
    hidden, logits = encoder.hidden_states(MOLECULES), encoder.logits(MOLECULES)
    pooled, first = encoder.embed(MOLECULES), encoder.embed(MOLECULES, "cls")
    for i, smiles in enumerate(MOLECULES):
        tokens = ids_of(encoder, smiles)
        want = model.encode(tokens)[0]
        assert_close(hidden[i], want, 1e-4)
        assert_close(logits[i], model.logits(tokens)[0], 1e-4)
        # As published: the mean of all tokens, <bos> and <eos> among them.
        assert_close(pooled[i], want[-1].mean(0), 1e-4)
        assert_close(first[i], want[-1][0], 1e-4)


@pytest.mark.parametrize("head", [None, HEAD])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_saved_and_loaded_again(tmp_path: Path, head: dict[str, Any] | None, dtype: str) -> None:
    tensors = write(tmp_path / "a", head)
    encoder = mt.load(tmp_path / "a")
    encoder.save(tmp_path / "b", dtype)
    again = load_file(tmp_path / "b" / "model.safetensors") if dtype == "float32" else {}
    if dtype == "float32":
        assert again.keys() == tensors.keys()
        assert all(np.array_equal(again[name], tensors[name]) for name in tensors)
    back = mt.load(tmp_path / "b")
    assert back.tokenizer == encoder.tokenizer
    assert back.config == encoder.config
    for layer in range(3):
        name = f"layers.{layer}.attn.features"
        assert np.array_equal(back.model.get_parameter(name), encoder.model.get_parameter(name))
    if dtype == "float32":
        result = Encoder.logits if head is None else Encoder.predict
        for one, two in zip(result(encoder, MOLECULES), result(back, MOLECULES), strict=True):
            assert np.array_equal(one, two)
    before, after = (json.loads((tmp_path / f / "config.json").read_text()) for f in "ab")
    changed = {k for k in before if before[k] != after.get(k)}
    assert not changed, changed


def test_bare_encoder_and_published_defaults(tmp_path: Path) -> None:
    """MolformerModel writes no prefix; a config.json may leave out what is as published."""
    write(tmp_path / "a")
    encoder = mt.load(tmp_path / "a")
    encoder.save(tmp_path / "b", architecture="MolformerModel")
    names = load_file(tmp_path / "b" / "model.safetensors").keys()
    assert "LayerNorm.weight" in names
    assert "encoder.layer.2.attention.self.feature_map.weight" in names
    path = tmp_path / "b" / "config.json"
    config = json.loads(path.read_text())
    for name in ("layer_norm_eps", "linear_attention_eps", "hidden_act", "deterministic_eval"):
        config.pop(name, None)
    path.write_text(json.dumps(config))
    bare = mt.load(tmp_path / "b")
    assert not bare.config["lm_head"]
    assert any("deterministic_eval" in note for note in bare.notes)
    assert np.array_equal(bare.embed(MOLECULES), encoder.embed(MOLECULES))


def test_classification_head(tmp_path: Path) -> None:
    tensors = write(tmp_path, HEAD)
    encoder = mt.load(tmp_path)
    assert encoder.head is not None
    assert encoder.head["form"] == "skip"
    model = exact(encoder, tensors)
    want = np.concatenate([model.classify(ids_of(encoder, s))[0] for s in MOLECULES])
    assert_close(encoder.predict(MOLECULES), want, 1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; allowed: gelu"),
        ({"feature_map_kernel": "elu"}, "feature_map_kernel is 'elu'; allowed: relu"),
        ({"num_random_features": 0}, "num_random_features is 0; allowed: an integer from 1 to 256"),
        ({"num_attention_heads": 5}, "num_attention_heads is 5; allowed: hidden_size 48 / heads"),
        ({"num_hidden_layers": 4}, "config.json says 4 layers, the weights hold 3"),
        ({"architectures": ["MolformerForCausalLM"]}, "architectures is"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"num_random_features": 13}, r"feature_map.weight' has shape \[16, 12\]"),
    ],
)
def test_refusals(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(CheckpointError, match=message):
        mt.load(tmp_path)


def test_a_class_that_cannot_hold_the_model(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ConfigError, match="allowed for this model: MolformerForMaskedLM"):
        mt.load(tmp_path).save(tmp_path / "b", architecture="MolformerForSequenceClassification")


def fill(encoder: Encoder, name: str) -> None:
    rng = np.random.default_rng(1)
    for parameter, shape in encoder.model.parameters():
        if parameter.startswith(f"adapters.{name}.") and parameter.endswith("lora_b"):
            encoder.model.set_parameter(parameter, rng.normal(0, 0.2, shape).astype(np.float32))


def test_adapter_goes_to_peft_and_back(tmp_path: Path) -> None:
    """Onto modules of the published names, whose outputs are then ours."""
    torch = pytest.importorskip("torch", reason="PEFT needs torch")
    peft = pytest.importorskip("peft", reason="compares with PEFT")
    from torch_molformer import SequenceClassification

    tensors = write(tmp_path / "base", HEAD)
    encoder = mt.load(tmp_path / "base")
    encoder.add_adapter("lab", 4, 8.0, targets=("attn.q", "attn.v", "mlp.down"), seed=2)
    fill(encoder, "lab")
    encoder.save_adapter("lab", tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert "base_model.model.molformer.encoder.layer.0.attention.self.query.lora_A.weight" in stored
    theirs = SequenceClassification(published_config(vocab_size=len(VOCABULARY)), 2)
    theirs.load_state_dict({name: torch.from_numpy(v) for name, v in tensors.items()})
    model = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval().double()
    want = []
    for smiles in MOLECULES:
        ids = torch.from_numpy(ids_of(encoder, smiles).astype(np.int64))[None]
        with torch.no_grad():
            want.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).numpy()[0])
    assert_close(encoder.predict(MOLECULES, adapter="lab"), np.stack(want), 1e-4)
    model.float().save_pretrained(tmp_path / "back")
    other = mt.load(tmp_path / "base")
    other.load_adapter(tmp_path / "back", "lab")
    assert np.array_equal(
        other.predict(MOLECULES, adapter="lab"), encoder.predict(MOLECULES, adapter="lab")
    )
    encoder.merge_adapter("lab")
    assert_close(encoder.predict(MOLECULES), np.stack(want), 1e-4)


@pytest.mark.parametrize("adapter", ["lora", "full", "head"])
def test_estimator_trains_predicts_and_comes_back(tmp_path: Path, adapter: str) -> None:
    write(tmp_path / "base", hidden_dropout_prob=0.1, embedding_dropout_prob=0.2)
    rng = np.random.default_rng(0)
    molecules = ["C" * n + str(rng.choice(list("ONFSI"))) for n in range(1, 41)]
    values = np.array([len(text) for text in molecules], dtype=float)
    regressor = mt.AssayRegressor(backbone=str(tmp_path / "base"), adapter=adapter, epochs=2)
    regressor.fit(molecules, values)
    predicted = regressor.predict(molecules)
    assert np.isfinite(predicted).all()
    regressor.save(tmp_path / "run")
    assert np.array_equal(mt.load_assay_model(tmp_path / "run").predict(molecules), predicted)
