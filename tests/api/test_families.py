"""RoBERTa, ESM C, RNA-FM and RiNALMo as published: values, saving, the Hub, beside the classes of
their publishers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_models import FAMILIES, edit_config, make, run, tokenizer_of, worst
from hub_server import Hub
from safetensors.numpy import load_file, save_file
from transformers_models import need_transformers

import moltide as mt
from moltide.encoder import Encoder
from moltide.errors import CheckpointError, ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*outside the vocabulary.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def hidden(encoder: Encoder, name: str) -> list[np.ndarray]:
    return encoder.hidden_states(FAMILIES[name].texts)


def parameters(encoder: Encoder) -> dict[str, np.ndarray]:
    model = encoder.model
    return {name: np.asarray(model.get_parameter(name)) for name, _ in model.parameters()}


def same(one: Encoder, other: Encoder) -> bool:
    a, b = parameters(one), parameters(other)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", FAMILIES)
def test_masked_lm(tmp_path: Path, name: str) -> None:
    """Tokens, every layer, every logit and the embeddings, against a float64 run."""
    model = make(tmp_path, name)
    want = run(model, tmp_path, name)
    encoder = mt.load(tmp_path)
    texts, tokenizer = FAMILIES[name].texts, tokenizer_of(tmp_path, name)
    for text in texts:
        tokens, _ = encoder.tokenizer.encode([text], on_illegal="unknown")
        assert tokens.tolist() == tokenizer(text)["input_ids"]
    assert worst(hidden(encoder, name), want["hidden"]) < 1e-5
    assert worst(encoder.logits(texts), want["logits"]) < 1e-5
    pooled = [states[-1, 1:-1].mean(0) for states in want["hidden"]]
    assert worst(list(encoder.embed(texts)), pooled) < 1e-5
    assert worst(list(encoder.embed(texts, "cls")), [s[-1, 0] for s in want["hidden"]]) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_heads(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    for kind, per_token in family.heads.items():
        folder = tmp_path / kind
        model = make(folder, name, kind, num_labels=3)
        want = run(model, folder, name)["logits"]
        if per_token:
            # multimolecule's answers are for the sequence alone.
            framed = family.package == "transformers"
            want = [values[1:-1] for values in want] if framed else want
        encoder = mt.load(folder)
        assert encoder.head is not None
        assert worst(list(encoder.predict(family.texts)), want) < 1e-5
        encoder.save(tmp_path / f"{kind}-saved")
        again = reload(tmp_path / f"{kind}-saved", name, kind)
        assert again.config.num_labels == 3
        got = run(again, tmp_path / f"{kind}-saved", name)["logits"]
        assert worst([v[1:-1] for v in got] if per_token and framed else got, want) < 1e-6


@pytest.mark.parametrize("name", FAMILIES)
def test_bare_encoder(tmp_path: Path, name: str) -> None:
    model = make(tmp_path / "theirs", name, "Model")
    want = run(model, tmp_path / "theirs", name)["hidden"]
    encoder = mt.load(tmp_path / "theirs")
    assert not encoder.config["lm_head"]
    assert encoder.head is None
    assert worst(hidden(encoder, name), want) < 1e-5
    encoder.save(tmp_path / "ours")
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    assert not any(key.startswith(FAMILIES[name].prefix + ".") for key in saved)
    assert same(mt.load(tmp_path / "ours"), encoder)


def reload(folder: Path, name: str, kind: str = "ForMaskedLM") -> Any:
    """The publisher's model from a folder of ours, with nothing missing and nothing left over."""
    family = FAMILIES[name]
    cls = getattr(family.module(), family.stem + kind)
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], (problem, info[problem])
    return model.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_and_read_by_the_publisher(tmp_path: Path, name: str) -> None:
    """The same bits in every weight, in the same places; the same tokens."""
    model = make(tmp_path / "theirs", name)
    encoder = mt.load(tmp_path / "theirs")
    encoder.save(tmp_path / "ours")
    again = reload(tmp_path / "ours", name)
    want = model.state_dict()
    got = again.state_dict()
    assert got.keys() == want.keys()
    for key, values in want.items():
        assert np.array_equal(got[key].numpy(), values.numpy()), key
    assert (
        worst(
            run(again, tmp_path / "ours", name)["logits"],
            run(model, tmp_path / "theirs", name)["logits"],
        )
        < 1e-6
    )
    reread = mt.load(tmp_path / "ours")
    assert same(reread, encoder)
    assert reread.config == encoder.config
    assert reread.tokenizer == encoder.tokenizer
    assert same(pickle.loads(pickle.dumps(encoder)), encoder)


@pytest.mark.parametrize("name", FAMILIES)
def test_from_the_hub(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "published", name)
    want = mt.load(tmp_path / "published").embed(FAMILIES[name].texts)
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("lab/model", tmp_path / "published")
        encoder = mt.load("lab/model", cache_dir=tmp_path / "cache")
        assert not [file for file in hub.asked_for() if file.endswith(".py")]
    assert np.array_equal(encoder.embed(FAMILIES[name].texts), want)


@pytest.mark.parametrize("name", FAMILIES)
def test_as_a_pytorch_file(tmp_path: Path, name: str) -> None:
    """As most of them were first published, in both formats."""
    torch, _ = need_transformers()
    model = make(tmp_path, name)
    want = mt.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for zip_format in (True, False):
        path = tmp_path / "pytorch_model.bin"
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zip_format)
        assert same(mt.load(tmp_path), want)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_fewer_bits(tmp_path: Path, name: str, dtype: str) -> None:
    want = run(make(tmp_path, name), tmp_path, name)["hidden"]
    error = worst(hidden(mt.load(tmp_path, dtype=dtype), name), want)
    assert 1e-4 < error < 0.2


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "untied": ("roberta", {"tie_word_embeddings": False}),
    "one type of token": ("roberta", {"type_vocab_size": 1}),
    "padding elsewhere": ("roberta", {"pad_token_id": 3}),
    "another eps": ("roberta", {"layer_norm_eps": 1e-3}),
    "relu": ("roberta", {"hidden_act": "relu"}),
    "biases": ("esmc", {"attention_bias": True, "mlp_bias": True}),
    "another rope base": (
        "esmc",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    ),
    "three layers": ("esmc", {"num_hidden_layers": 3}),
    "token dropout": ("rnafm", {"token_dropout": True}),
    "rotary": ("rnafm", {"position_embedding_type": "rotary"}),
    "RNA untied": ("rnafm", {"tie_word_embeddings": False}),
    "another eps in the head": ("rnafm", {"lm_head": {"layer_norm_eps": 1e-2}}),
    "no token dropout": ("rinalmo", {"token_dropout": False}),
    "RiNALMo tied": ("rinalmo", {"tie_word_embeddings": True}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_configs(tmp_path: Path, change: str) -> None:
    name, options = CHANGES[change]
    model = make(tmp_path / "theirs", name, **options)
    want = run(model, tmp_path / "theirs", name)
    encoder = mt.load(tmp_path / "theirs")
    assert worst(hidden(encoder, name), want["hidden"]) < 1e-5
    assert worst(encoder.logits(FAMILIES[name].texts), want["logits"]) < 1e-5
    encoder.save(tmp_path / "ours")
    got = run(reload(tmp_path / "ours", name), tmp_path / "ours", name)
    assert worst(got["logits"], want["logits"]) < 1e-6


# ---- RoBERTa ------------------------------------------------------------------------------------


def test_positions_and_token_types(tmp_path: Path) -> None:
    """The first type is in the engine's positions; both tables are written back as they were, and
    trained positions so that reading them again gives the same bits."""
    make(tmp_path / "a", "roberta")
    stored = load_file(tmp_path / "a" / "model.safetensors")
    positions = stored["roberta.embeddings.position_embeddings.weight"]
    types = stored["roberta.embeddings.token_type_embeddings.weight"]
    encoder = mt.load(tmp_path / "a")
    folded = np.asarray(encoder.model.get_parameter("embed.positions.weight"))
    assert np.array_equal(folded, positions + types[0])
    encoder.model.set_parameter("embed.positions.weight", folded * np.float32(1.25))
    encoder.save(tmp_path / "b")
    saved = load_file(tmp_path / "b" / "model.safetensors")
    assert not saved["roberta.embeddings.token_type_embeddings.weight"][0].any()
    assert np.array_equal(
        saved["roberta.embeddings.token_type_embeddings.weight"][1], types[1] - types[0]
    )
    assert same(mt.load(tmp_path / "b"), encoder)
    model = reload(tmp_path / "b", "roberta")
    want = run(model, tmp_path / "b", "roberta")["hidden"]
    assert worst(hidden(encoder, "roberta"), want) < 1e-5


def test_chemberta_2_regression(tmp_path: Path) -> None:
    """RobertaForRegression: the classifier under another name, with scales in its config."""
    model = make(tmp_path, "roberta", "ForSequenceClassification", num_labels=4)
    want = run(model, tmp_path, "roberta")["logits"]
    path = tmp_path / "model.safetensors"
    tensors = {
        name.replace("classifier.", "regression."): values
        for name, values in load_file(path).items()
    }
    tensors |= {"norm_mean": np.ones(4, np.float32), "norm_std": np.ones(4, np.float32)}
    save_file(tensors, path, {"format": "pt"})
    scales = {"norm_mean": [1.0] * 4, "norm_std": [2.0] * 4}
    edit_config(tmp_path, architectures=["RobertaForRegression"], **scales)
    encoder = mt.load(tmp_path)
    assert worst(list(encoder.predict(FAMILIES["roberta"].texts)), want) < 1e-5
    assert any("norm_std" in note for note in encoder.notes)
    encoder.save(tmp_path / "saved")
    assert (
        worst(
            run(
                reload(tmp_path / "saved", "roberta", "ForSequenceClassification"),
                tmp_path,
                "roberta",
            )["logits"],
            want,
        )
        < 1e-6
    )


def test_old_spellings(tmp_path: Path) -> None:
    """gamma, beta, index buffers and a second bias, as checkpoints of 2020 have them."""
    make(tmp_path, "roberta")
    want = mt.load(tmp_path)
    path = tmp_path / "model.safetensors"
    old: dict[str, np.ndarray] = {}
    for name, values in load_file(path).items():
        for new, former in (("Norm.weight", "Norm.gamma"), ("Norm.bias", "Norm.beta")):
            name = name.replace(new, former) if "lm_head" not in name else name
        old[name] = values
    assert any(name.endswith("gamma") for name in old)
    old["roberta.embeddings.position_ids"] = np.arange(40, dtype=np.int64)[None]
    old["lm_head.decoder.bias"] = old["lm_head.bias"]
    old["lm_head.decoder.weight"] = old["roberta.embeddings.word_embeddings.weight"]
    old["roberta.pooler.dense.weight"] = np.zeros((32, 32), np.float32)
    old["roberta.pooler.dense.bias"] = np.zeros(32, np.float32)
    save_file(old, path, {"format": "pt"})
    assert same(mt.load(tmp_path), want)


# ---- ESM C --------------------------------------------------------------------------------------

_FUSED = {
    "self_attn.o_proj.weight": "attn.out_proj.weight",
    "self_attn.q_norm.weight": "attn.q_ln.weight",
    "self_attn.k_norm.weight": "attn.k_ln.weight",
    "input_layernorm.": "attn.layernorm_qkv.0.",
    "post_attention_layernorm.": "ffn.0.",
    "mlp.down_proj.weight": "ffn.3.weight",
}


def native(tensors: dict[str, np.ndarray], layers: int = 2) -> dict[str, np.ndarray]:
    """The names of the `esm` package, where projections of the same input are one matrix."""
    out = {}
    for name, values in tensors.items():
        name = name.removeprefix("esmc.")
        if "self_attn.q_proj" in name or "mlp.gate_proj" in name:
            stem = name.split("self_attn")[0].split("mlp")[0]
            parts = ("q", "k", "v") if "self_attn" in name else ("gate", "up")
            home = "self_attn" if "self_attn" in name else "mlp"
            joined = [tensors[f"esmc.{stem}{home}.{part}_proj.weight"] for part in parts]
            to = "attn.layernorm_qkv.1.weight" if home == "self_attn" else "ffn.1.weight"
            out[f"transformer.blocks.{stem.split('.')[1]}.{to}"] = np.concatenate(joined)
            continue
        if any(part in name for part in ("k_proj", "v_proj", "up_proj")):
            continue
        for ours, theirs in _FUSED.items():
            name = name.replace(ours, theirs)
        name = name.replace("layers.", "transformer.blocks.").replace("embed_tokens.", "embed.")
        name = "transformer.norm.weight" if name == "norm.weight" else name
        for ours, theirs in (("dense", "0"), ("layer_norm", "2"), ("decoder", "3")):
            name = name.replace(f"lm_head.{ours}.", f"sequence_head.{theirs}.")
        out[name] = values
    return out


def test_esmc_of_its_own_package(tmp_path: Path) -> None:
    """One matrix for queries, keys and values: taken apart to the same bits, joined on request."""
    make(tmp_path / "split", "esmc")
    want = mt.load(tmp_path / "split")
    fused = native(load_file(tmp_path / "split" / "model.safetensors"))
    assert fused["transformer.blocks.0.attn.layernorm_qkv.1.weight"].shape == (96, 32)
    folder = tmp_path / "fused"
    folder.mkdir()
    save_file(fused, folder / "model.safetensors", {"format": "pt"})
    sizes = {"d_model": 32, "n_heads": 2, "n_layers": 2, "intermediate_size": 40}
    (folder / "config.json").write_text(json.dumps({"model_type": "esmc", **sizes}))
    encoder = mt.load(folder)
    assert same(encoder, want)
    assert any("ESM C are assumed" in note for note in encoder.notes)
    texts = FAMILIES["esmc"].texts
    assert np.array_equal(encoder.embed(texts), want.embed(texts))
    encoder.save(tmp_path / "again", architecture="ESMC")
    saved = load_file(tmp_path / "again" / "model.safetensors")
    assert saved.keys() == fused.keys()
    assert all(np.array_equal(saved[key], fused[key]) for key in fused)
    assert same(mt.load(tmp_path / "again"), want)
    encoder.save(tmp_path / "transformers")
    reload(tmp_path / "transformers", "esmc")


def test_esmc_with_names_of_fused_layers(tmp_path: Path) -> None:
    """As on the Hub before Transformers had it."""
    make(tmp_path, "esmc")
    want = mt.load(tmp_path)
    tensors = {}
    for name, values in native(load_file(tmp_path / "model.safetensors")).items():
        for old, new in (
            ("layernorm_qkv.0.", "layernorm_qkv.layer_norm_"),
            ("layernorm_qkv.1.weight", "layernorm_qkv.weight"),
            ("ffn.0.", "ffn.layer_norm_"),
            ("ffn.1.weight", "ffn.fc1_weight"),
            ("ffn.3.weight", "ffn.fc2_weight"),
            ("sequence_head.", "lm_head."),
        ):
            name = name.replace(old, new)
        tensors["esmc." + name if not name.startswith("lm_head") else name] = values
    tensors["esmc.transformer.blocks.0.ffn._extra_state"] = np.zeros(3, np.uint8)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert same(mt.load(tmp_path), want)


def test_esmc_published_without_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/weights/esmc_300m_2024_12_v0.pth alone: its sizes are known (here, of a tiny one)."""
    from moltide.pretrained import esmc

    torch, _ = need_transformers()
    make(tmp_path / "split", "esmc")
    fused = native(load_file(tmp_path / "split" / "model.safetensors"))
    weights = tmp_path / "published" / "data" / "weights"
    weights.mkdir(parents=True)
    name = "esmc_300m_2024_12_v0.pth"
    torch.save({key: torch.from_numpy(values) for key, values in fused.items()}, weights / name)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    known = esmc.BARE_WEIGHTS["data/weights/" + name]
    assert (known["hidden_size"], known["num_hidden_layers"]) == (960, 30)
    monkeypatch.setitem(
        esmc.BARE_WEIGHTS, "data/weights/" + name, {**known, **sizes, "intermediate_size": 40}
    )
    encoder = mt.load(tmp_path / "published")
    assert same(encoder, mt.load(tmp_path / "split"))
    assert encoder.tokenizer.id_of("|") == 31


def test_esmc_published_sizes() -> None:
    """300M and 600M: parameters as counted by the publisher."""
    from moltide.pretrained import esmc
    from moltide.pretrained.shapes import parameter_shapes

    counts = []
    for name in ("esmc_300m_2024_12_v0.pth", "esmc_600m_2024_12_v0.pth"):
        config = esmc.config_from_published(esmc.BARE_WEIGHTS[name], name).config
        shapes = parameter_shapes(config)
        counts.append(sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6)
        assert config["residual_scale"] == pytest.approx((36 / config["layers"]) ** 0.5)
    assert counts == pytest.approx([333, 575], abs=0.1)


# ---- RNA-FM -------------------------------------------------------------------------------------


def test_pair_head_of_pretraining_is_kept(tmp_path: Path) -> None:
    model = make(tmp_path / "a", "rnafm", "ForPreTraining")
    encoder = mt.load(tmp_path / "a")
    encoder.save(tmp_path / "b", architecture="RnaFmForPreTraining")
    again = reload(tmp_path / "b", "rnafm", "ForPreTraining").state_dict()
    for key, values in model.state_dict().items():
        assert np.array_equal(again[key].numpy(), values.numpy()), key
    encoder.save(tmp_path / "c")
    assert not [k for k in load_file(tmp_path / "c" / "model.safetensors") if "ss_head" in k]
    with pytest.raises(ConfigError, match=r"head for pairs of nucleotides; this model has none"):
        mt.load(tmp_path / "c").save(tmp_path / "d", architecture="RnaFmForPreTraining")


@pytest.mark.parametrize("name", ["rnafm", "rinalmo"])
def test_secondary_structure_models_give_their_encoder(tmp_path: Path, name: str) -> None:
    model = make(tmp_path, name, "ForSecondaryStructurePrediction")
    want = run_encoder(model, tmp_path, name)
    encoder = mt.load(tmp_path)
    assert worst(hidden(encoder, name), want) < 1e-5
    assert any("secondary structure" in note for note in encoder.notes)


def run_encoder(model: Any, folder: Path, name: str) -> list[np.ndarray]:
    return run(model.model, folder, name)["hidden"]


def test_a_padding_id_that_frames_sequences_is_refused(tmp_path: Path) -> None:
    # Transformers would give every <s> the position of padding.
    make(tmp_path, "roberta", pad_token_id=0)
    with pytest.raises(
        CheckpointError, match=r"id 0 is <cls>, and config.json says that it is pad"
    ):
        mt.load(tmp_path)
