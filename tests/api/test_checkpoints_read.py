"""Reading published checkpoints: layouts old and new, and one clear error for each fault."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import TINY, same, tiny_tensors, write_sharded, write_tiny
from safetensors.numpy import save_file

from moltide.errors import CheckpointError
from moltide.pretrained.checkpoint import Checkpoint, read_checkpoint
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.shapes import parameter_shapes

DATA = Path(__file__).parent.parent / "data"


def read(folder: Path) -> Checkpoint:
    return read_checkpoint(FolderFiles(folder))


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return dict(read(folder).arrays())


def test_published_8m_config_and_names() -> None:
    """The published 8M config asks for exactly the tensors Transformers lists for it."""
    from moltide.pretrained import esm
    from moltide.pretrained.names import recognise

    published = json.loads((DATA / "esm2_configs/hf_esm2_t6_8M_UR50D_config.json").read_text())
    listed = json.loads((DATA / "esm2_configs/hf_state_dict_keys_t6_8M.json").read_text())["keys"]
    config = esm.config_from_published(published, "config.json").config
    assert (config["layers"], config["width"], config["heads"], config["head_dim"]) == (
        6,
        320,
        20,
        16,
    )
    assert config["mask_ratio_train"] == 0.15 * 0.8
    found = recognise(listed, esm.NAMES, "list")
    assert found.unexpected == []
    assert found.rope_frequencies == ["esm.rotary_embeddings.inv_freq"]
    assert found.harmless == []
    shapes = parameter_shapes(config)
    theirs = {name: tuple(listed[original][1]) for name, original in found.names.items()}
    theirs.pop("lm_head.decoder.weight", None)  # tied: listed by Transformers, no parameter
    assert shapes == theirs


def test_only_a_plain_number_is_a_layer() -> None:
    from moltide.pretrained import esm
    from moltide.pretrained.names import recognise

    norms = [f"encoder.layer.{layer}.LayerNorm.bias" for layer in ("10", "01", "x", "{i}", "1.1")]
    found = recognise([*norms, "esm.lm_head.bias"], esm.NAMES, "list")
    assert found.names == {"layers.10.mlp_norm.bias": norms[0]}
    assert found.unexpected == sorted([*norms[1:], "esm.lm_head.bias"])


def test_tiny_golden_reads_back_every_value() -> None:
    from safetensors.numpy import load_file

    folder = DATA / "esm2_tiny_random"
    stored = load_file(folder / "model.safetensors")
    got = arrays(folder)
    assert len(got) == len(stored) - 1  # inv_freq is a buffer
    query = "esm.encoder.layer.1.attention.self.query.weight"
    assert np.array_equal(got["layers.1.attn.q.weight"], stored[query])
    assert np.array_equal(
        got["layers.2.mlp_norm.bias"], stored["esm.encoder.layer.2.LayerNorm.bias"]
    )


def test_shards_are_one_model(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    whole = arrays(write_tiny(tmp_path / "whole", tensors))
    assert same(arrays(write_sharded(tmp_path / "parts", tensors)), whole)


def test_old_spellings_and_strays(tmp_path: Path) -> None:
    """gamma/beta, per-layer inv_freq, position_ids, a position table beside rotary positions."""
    tensors = tiny_tensors()
    want = arrays(write_tiny(tmp_path / "new", tensors))
    old = {}
    for name, values in tensors.items():
        for new, former in (("Norm.weight", "Norm.gamma"), ("Norm.bias", "Norm.beta")):
            name = name.replace(new, former)
        old[name] = values
    assert any(name.endswith(".gamma") for name in old)
    inv_freq = (1.0 / 10000 ** (np.arange(0, 16, 2) / 16)).astype(np.float32)
    for layer in (0, 1):
        old[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = inv_freq
    old["esm.embeddings.position_ids"] = np.arange(40, dtype=np.int64)[None]
    old["esm.embeddings.position_embeddings.weight"] = np.zeros((40, 32), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(arrays(write_tiny(tmp_path / "old", old)), want)


def test_bare_encoder_with_pooler(tmp_path: Path) -> None:
    """EsmModel writes no prefix, no masked-LM head, and a pooler."""
    tensors = {
        name.removeprefix("esm."): values
        for name, values in tiny_tensors().items()
        if not name.startswith("lm_head")
    }
    tensors["pooler.dense.weight"] = np.zeros((32, 32), np.float32)
    tensors["pooler.dense.bias"] = np.zeros(32, np.float32)
    found = read(write_tiny(tmp_path, tensors, architectures=["EsmModel"]))
    assert not found.config["lm_head"]
    assert any("pooler" in note for note in found.notes)
    assert not any(name.startswith("lm_head") for name in found.tensors)


@pytest.mark.parametrize(
    ("architecture", "shapes", "head"),
    [
        (
            "EsmForSequenceClassification",
            {"dense.weight": (32, 32), "dense.bias": (32,), "out_proj.weight": (3, 32)}
            | {"out_proj.bias": (3,)},
            {"pool": "cls", "hidden": 32, "outputs": 3},
        ),
        (
            "EsmForTokenClassification",
            {"weight": (5, 32), "bias": (5,)},
            {"pool": "none", "hidden": 0, "outputs": 5},
        ),
    ],
)
def test_heads(
    tmp_path: Path, architecture: str, shapes: dict[str, Any], head: dict[str, Any]
) -> None:
    tensors = {n: v for n, v in tiny_tensors().items() if not n.startswith("lm_head")}
    tensors |= {f"classifier.{n}": np.ones(s, np.float32) for n, s in shapes.items()}
    found = read(write_tiny(tmp_path, tensors, architectures=[architecture]))
    assert found.head is not None
    assert {key: found.head[key] for key in head} == head
    assert not found.config["lm_head"]


def test_learned_positions(tmp_path: Path) -> None:
    """ESM-1b: the table keeps its rows, the first usable one is after the padding id."""
    tensors = tiny_tensors()
    tensors["esm.embeddings.position_embeddings.weight"] = np.ones((40, 32), np.float32)
    tensors["esm.embeddings.layer_norm.weight"] = np.ones(32, np.float32)
    tensors["esm.embeddings.layer_norm.bias"] = np.ones(32, np.float32)
    changes = {"position_embedding_type": "absolute", "emb_layer_norm_before": True}
    found = read(write_tiny(tmp_path, tensors, **changes))
    assert found.config["position"] == "learned"
    assert (found.config["max_positions"], found.config["position_offset"]) == (40, 2)
    assert {"embed.positions.weight", "embed.norm.weight"} <= found.tensors.keys()


def test_stored_rotary_frequencies(tmp_path: Path) -> None:
    """Frequencies that were rounded to half precision are part of the model; exact ones are not."""
    tensors = tiny_tensors()
    exact = (1.0 / 10000 ** (np.arange(0, 16, 2) / 16)).astype(np.float32)
    rounded = exact.astype(np.float16).astype(np.float32)
    for name in ("rotary_embeddings", "encoder.layer.1.attention.self.rotary_embeddings"):
        changed = tensors | {f"esm.{name}.inv_freq": rounded}
        found = read(write_tiny(tmp_path / "rounded", changed))
        assert found.config["rope_inv_freq"] == rounded.tolist()
        assert any("rotary frequencies" in note for note in found.notes)
        found = read(write_tiny(tmp_path / "exact", tensors | {f"esm.{name}.inv_freq": exact}))
        assert found.config["rope_inv_freq"] == []
    tensors["esm.rotary_embeddings.inv_freq"] = exact[:3]
    with pytest.raises(CheckpointError, match=r"inv_freq' holds .* expected 8 finite numbers"):
        read(write_tiny(tmp_path / "short", tensors))


def test_no_contact_head(tmp_path: Path) -> None:
    tensors = {n: v for n, v in tiny_tensors().items() if "contact" not in n}
    found = read(write_tiny(tmp_path, tensors))
    assert not found.config["contact_head"]
    assert any("contact" in note for note in found.notes)


@pytest.mark.parametrize("present", ["absent", "equal", "different"])
@pytest.mark.parametrize("tie", [True, False])
def test_tied_decoder(tmp_path: Path, present: str, tie: bool) -> None:
    """As Transformers 5: equal copies are tied, different ones are kept apart."""
    tensors = tiny_tensors()
    embedding = tensors["esm.embeddings.word_embeddings.weight"]
    if present != "absent":
        tensors["lm_head.decoder.weight"] = embedding + (present == "different")
    write_tiny(tmp_path, tensors, tie_word_embeddings=tie)
    if not tie and present == "absent":
        with pytest.raises(CheckpointError, match=r"missing: lm_head.decoder.weight"):
            read(tmp_path)
        return
    found = read(tmp_path)
    untied = not tie or present == "different"
    assert found.config["tie_lm_head"] is not untied
    assert ("lm_head.decoder.weight" in found.tensors) is untied


def test_decoder_alone_stands_for_the_tied_embedding(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    embedding = tensors.pop("esm.embeddings.word_embeddings.weight")
    tensors["lm_head.decoder.weight"] = embedding
    assert np.array_equal(arrays(write_tiny(tmp_path, tensors))["embed.tokens.weight"], embedding)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="writes bfloat16 independently")
    from moltide.pretrained.safe_tensors import write_tensors

    tensors = tiny_tensors()
    numpy_type = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    want = {name: v.astype(numpy_type).astype(np.float32) for name, v in tensors.items()}
    write_tiny(tmp_path)
    if dtype == "bfloat16":
        write_tensors(tmp_path / "model.safetensors", tensors, "bf16")
    else:
        save_file({n: v.astype(dtype) for n, v in tensors.items()}, tmp_path / "model.safetensors")
    got = arrays(tmp_path)
    name = "esm.encoder.layer.0.intermediate.dense.weight"
    assert np.array_equal(got["layers.0.mlp.up.weight"], want[name])
    assert all(values.dtype == np.float32 for values in got.values())


# ---- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"model_type is 'bert'; allowed: esm"),
        ({"model_type": None}, r"no model_type; allowed: esm"),
        ({"model_type": None, "format": "moltide.assay"}, r"read by moltide.load_assay_model"),
        ({"is_folding_model": True}, r"this is ESMFold"),
        ({"architectures": ["EsmForProteinFolding"]}, r"this is ESMFold"),
        ({"architectures": ["BertModel"]}, r"architectures is \['BertModel'\]; allowed: EsmModel"),
        ({"hidden_size": 0}, r"hidden_size is 0; allowed: an integer from 1"),
        ({"hidden_size": "64"}, r"hidden_size is '64'"),
        (
            {"num_attention_heads": 3},
            r"num_attention_heads is 3; allowed: a divisor of hidden_size",
        ),
        ({"position_embedding_type": "relative_key"}, r"relative_key.*allowed: rotary, absolute"),
        ({"mask_token_id": None}, r"mask_token_id is None.*token_dropout"),
        ({"is_decoder": True}, r"is_decoder is True; allowed: false"),
        ({"quantization_config": {"bits": 4}}, r"quantised weights"),
        ({"layer_norm_eps": -1}, r"layer_norm_eps is -1"),
        ({"token_dropout": "yes"}, r"token_dropout is 'yes'; allowed: true or false"),
        ({"vocab_size": None}, r"vocab_size is None"),
        ({"num_hidden_layers": 3}, r"config.json says 3 layers, the weights hold 2"),
        ({"num_hidden_layers": 10**9}, r"config.json says 1000000000 layers, the weights hold 2"),
        ({"intermediate_size": 64}, r"intermediate.dense.weight' has shape \[48, 32\].*\[64, 32\]"),
        ({"emb_layer_norm_before": True}, r"2 of \d+ tensors are missing: embed.norm.bias"),
        ({"position_embedding_type": "absolute"}, r"missing: embed.positions.weight"),
    ],
)
def test_config_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_tiny(tmp_path, tiny_tensors())
    (tmp_path / "config.json").write_text(json.dumps({**TINY, **changes}))
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


def test_nvidia_variant_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    source = DATA / "esm2_configs/nv_esm2_t6_8M_config.json"
    (tmp_path / "config.json").write_bytes(source.read_bytes())
    with pytest.raises(CheckpointError, match=r"'nv_esm'; allowed: esm\b.*TransformerEngine"):
        read(tmp_path)


def test_head_promised_and_absent(tmp_path: Path) -> None:
    write_tiny(tmp_path, tiny_tensors(), architectures=["EsmForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"hold no classifier"):
        read(tmp_path)


def test_norm_the_config_has_no_place_for(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["esm.embeddings.layer_norm.weight"] = np.ones(32, np.float32)
    with pytest.raises(CheckpointError, match=r"contradicts the weights.*layer_norm.weight"):
        read(write_tiny(tmp_path, tensors))


def test_wrong_shape_is_named(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["esm.encoder.layer.1.attention.self.key.bias"] = np.zeros(31, np.float32)
    with pytest.raises(CheckpointError) as caught:
        read(write_tiny(tmp_path, tensors))
    message = str(caught.value)
    for part in ("model.safetensors", "layer.1.attention.self.key.bias", "[31]", "[32]"):
        assert part in message


def test_missing_tensors_are_listed_and_counted(tmp_path: Path) -> None:
    tensors = {n: v for n, v in tiny_tensors().items() if ".self." not in n}
    with pytest.raises(CheckpointError) as caught:
        read(write_tiny(tmp_path, tensors))
    assert "12 of 42 tensors are missing: layers.0.attn.k.bias" in str(caught.value)
    assert "... (12 in all)" in str(caught.value)


def test_masked_lm_head_missing(tmp_path: Path) -> None:
    tensors = {n: v for n, v in tiny_tensors().items() if not n.startswith("lm_head")}
    with pytest.raises(CheckpointError, match=r"5 of \d+ tensors are missing: lm_head.bias"):
        read(write_tiny(tmp_path, tensors))


def test_unexpected_tensors_warn(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["esm.encoder.layer.0.adapter.weight"] = np.ones(3, np.float32)
    with pytest.warns(UserWarning, match=r"left out: esm.encoder.layer.0.adapter.weight"):
        read(write_tiny(tmp_path, tensors))


def test_two_spellings_at_once(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    name = "esm.encoder.layer.0.LayerNorm."
    tensors[name + "gamma"] = tensors[name + "weight"]
    with pytest.raises(CheckpointError, match=r"both stand for layers.0.mlp_norm.weight"):
        read(write_tiny(tmp_path, tensors))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensors = tiny_tensors()
    tensors["lm_head.bias"][3] = value
    says = r"model.safetensors: tensor 'lm_head.bias' has 1 NaN or infinite values among 33"
    with pytest.raises(CheckpointError, match=says):
        arrays(write_tiny(tmp_path, tensors))


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray] = tiny_tensors()
    tensors["lm_head.bias"] = np.zeros(33, np.int8)
    with pytest.raises(CheckpointError, match=r"'lm_head.bias' has dtype I8; allowed: F32, BF16"):
        read(write_tiny(tmp_path, tensors))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_what_only_bears_the_name_of_a_pytorch_file_is_refused(tmp_path: Path, name: str) -> None:
    write_tiny(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: not a PyTorch file: it starts with b'"):
        read(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config.json"):
        read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    with pytest.raises(
        CheckpointError, match=r"no weights; looked for model.safetensors, .*pytorch_model.bin"
    ):
        read(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"this is an adapter"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "holds a list"), ('"x"', "holds a str"), ("\xff", "JSON")],
)
def test_unreadable_config(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


def sharded_index(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.safetensors.index.json").read_text())


@pytest.mark.parametrize(
    "shard",
    ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "a\\b.safetensors", "x.bin", ""],
)
def test_shard_outside_the_folder(tmp_path: Path, shard: str) -> None:
    folder = write_sharded(tmp_path / "model", tiny_tensors())
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "outside.safetensors")
    index = sharded_index(folder)
    index["weight_map"]["lm_head.bias"] = shard
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"'lm_head.bias' is said to be in .*plain name"):
        read(folder)


def test_shard_missing(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path, tiny_tensors())
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"shard 'model-00002-of-00003.safetensors' is missing"
    ):
        read(folder)


def test_tensor_not_in_its_shard(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path, tiny_tensors())
    index = sharded_index(folder)
    first, second = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"
    index["weight_map"] = {
        name: first if shard == second else shard for name, shard in index["weight_map"].items()
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"is not in 'model-00001-of-00003.safetensors'"):
        read(folder)


def test_index_without_a_map(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no weight_map"):
        read(tmp_path)
