"""Encoder.save: read back by moltide to the same bits, by Transformers to equal outputs."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import tiny_tensors, write_sharded, write_tiny
from safetensors.numpy import load_file
from transformers_models import SEQUENCES, make, need_transformers, rotary_frequencies, run

import moltide as mt
from moltide.encoder import Encoder
from moltide.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:.*outside the vocabulary.*:UserWarning")

TINY = Path(__file__).parent.parent / "data" / "esm2_tiny_random"


def parameters(encoder: Encoder) -> dict[str, np.ndarray]:
    model = encoder.model
    return {name: np.asarray(model.get_parameter(name)) for name, _ in model.parameters()}


def same(one: Encoder, other: Encoder) -> bool:
    a, b = parameters(one), parameters(other)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_round_trip(tmp_path: Path) -> None:
    encoder = mt.load(TINY)
    encoder.save(tmp_path / "deep" / "saved")
    again = mt.load(tmp_path / "deep" / "saved")
    assert same(encoder, again)
    assert again.config == encoder.config
    assert again.tokenizer == encoder.tokenizer
    assert sorted(os.listdir(tmp_path / "deep" / "saved")) == [
        *("config.json", "model.safetensors", "special_tokens_map.json"),
        *("tokenizer_config.json", "vocab.txt"),
    ]


def test_unknown_config_fields_are_kept(tmp_path: Path) -> None:
    write_tiny(tmp_path / "a", tiny_tensors(), initializer_range=0.05, my_field={"x": [1]})
    mt.load(tmp_path / "a").save(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["my_field"] == {"x": [1]}
    assert config["initializer_range"] == 0.05
    assert config["dtype"] == "float32"


def test_bf16_file(tmp_path: Path) -> None:
    from moltide.pretrained.safe_tensors import bfloat16_to_float32, float32_to_bfloat16

    encoder = mt.load(TINY)
    encoder.save(tmp_path, dtype="bf16")
    again = parameters(mt.load(tmp_path))
    for name, values in parameters(encoder).items():
        assert np.array_equal(again[name], bfloat16_to_float32(float32_to_bfloat16(values)))
    assert (tmp_path / "model.safetensors").stat().st_size < 340_000
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_no_contact_head_round_trip(tmp_path: Path) -> None:
    """The file holds zeros, so that Transformers finds every tensor; moltide knows them."""
    tensors = {n: v for n, v in tiny_tensors().items() if "contact" not in n}
    encoder = mt.load(write_tiny(tmp_path / "a", tensors))
    encoder.save(tmp_path / "b")
    assert not load_file(tmp_path / "b" / "model.safetensors")[
        "esm.contact_head.regression.weight"
    ].any()
    assert not mt.load(tmp_path / "b").config["contact_head"]


def test_shards_round_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model beyond the limit is written in shards; saving a small one there takes them over."""
    from moltide.pretrained import writing

    encoder = mt.load(TINY)
    monkeypatch.setattr(writing, "MAX_SHARD_BYTES", 100_000)
    encoder.save(tmp_path)
    shards = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert all((tmp_path / shard).stat().st_size < 110_000 for shard in shards)
    assert not (tmp_path / "model.safetensors").exists()
    assert same(mt.load(tmp_path), encoder)
    monkeypatch.undo()
    encoder.save(tmp_path)
    assert not (tmp_path / "model.safetensors.index.json").exists()
    assert list(tmp_path.glob("model-*.safetensors")) == []
    assert same(mt.load(tmp_path), encoder)


def test_loading_from_shards_is_loading_from_one(tmp_path: Path) -> None:
    one = mt.load(write_tiny(tmp_path / "one", tiny_tensors()))
    assert same(one, mt.load(write_sharded(tmp_path / "shards", tiny_tensors())))


def test_disk_full_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    mt.load(write_tiny(tmp_path, tiny_tensors())).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    encoder = mt.load(TINY)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors"):
            encoder.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        mt.load(TINY).save(tmp_path / "file" / "model")


def test_architectures_refused() -> None:
    encoder = mt.load(TINY)
    with pytest.raises(
        ConfigError, match="'EsmForTokenClassification'; allowed for this model: Esm"
    ):
        encoder.save("never", architecture="EsmForTokenClassification")
    with pytest.raises(ConfigError, match="dtype is 'float16'; allowed: float32, bf16"):
        encoder.save("never", dtype="float16")
    assert not Path("never").exists()


# ---- Transformers reads what we write -----------------------------------------------------------


def reload(folder: Path, kind: str) -> Any:
    """Transformers' model from a folder of ours, with nothing missing and nothing left over."""
    _, transformers = need_transformers()
    cls = getattr(transformers, kind)
    model, info = cls.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[problem], (problem, info[problem])
    return model.eval()


def assert_equal(one: Any, other: Any) -> None:
    """Two Transformers models: the same bits in every weight, the same outputs but for what the
    last bit of a rotary frequency does."""
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        if name.endswith("inv_freq"):
            assert np.allclose(ours[name].numpy(), values.numpy(), rtol=3e-7, atol=0)
        else:
            assert np.array_equal(ours[name].numpy(), values.numpy()), name
    got, want = run(one, SEQUENCES), run(other, SEQUENCES)
    assert got.keys() == want.keys()
    for part in want:
        for a, b in zip(got[part], want[part], strict=True):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"position_embedding_type": "absolute", "emb_layer_norm_before": True},
        {"vocab_size": 40},
    ],
    ids=["ESM-2", "untied", "ESM-1b", "longer vocabulary"],
)
def test_masked_lm(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = make(tmp_path / "theirs", 16, **changes)
    mt.load(tmp_path / "theirs").save(tmp_path / "ours")
    again = reload(tmp_path / "ours", "EsmForMaskedLM")
    assert_equal(again, model)


@pytest.mark.parametrize("kind", ["EsmForSequenceClassification", "EsmForTokenClassification"])
def test_heads(tmp_path: Path, kind: str) -> None:
    labels = {
        "id2label": {0: "low", 1: "mid", 2: "high"},
        "label2id": {"low": 0, "mid": 1, "high": 2},
    }
    model = make(tmp_path / "theirs", 16, kind, num_labels=3, **labels)
    mt.load(tmp_path / "theirs").save(tmp_path / "ours")
    again = reload(tmp_path / "ours", kind)
    assert again.config.id2label == {0: "low", 1: "mid", 2: "high"}
    assert_equal(again, model)


def test_a_fresh_head_is_published(tmp_path: Path) -> None:
    encoder = mt.load(TINY)
    encoder.set_head({"pool": "cls", "hidden": 64, "outputs": 4, "dropout": 0.0}, seed=5)
    encoder.save(tmp_path / "classifier")
    encoder.save(tmp_path / "lm", architecture="EsmForMaskedLM")
    model = reload(tmp_path / "classifier", "EsmForSequenceClassification")
    want = np.stack(run(model, SEQUENCES)["logits"])
    assert np.abs(encoder.predict(SEQUENCES) - want).max() < 1e-5 * np.abs(want).max()
    reload(tmp_path / "lm", "EsmForMaskedLM")


def test_stored_frequencies_are_written_back(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    exact = (1.0 / 10000 ** (np.arange(0, 16, 2) / 16)).astype(np.float32)
    rounded = exact.astype(np.float16).astype(np.float32)
    tensors["esm.rotary_embeddings.inv_freq"] = rounded
    mt.load(write_tiny(tmp_path / "a", tensors)).save(tmp_path / "b")
    assert mt.load(tmp_path / "b").config["rope_inv_freq"] == rounded.tolist()
    model = reload(tmp_path / "b", "EsmForMaskedLM")
    assert np.array_equal(rotary_frequencies(model), rounded)


def test_bf16_file_in_transformers(tmp_path: Path) -> None:
    torch, transformers = need_transformers()
    mt.load(TINY).save(tmp_path, dtype="bf16")
    # Transformers 5 takes the file's dtype by itself.
    as_stored = {"torch_dtype": "auto"} if transformers.__version__.startswith("4") else {}
    model = transformers.EsmForMaskedLM.from_pretrained(tmp_path, **as_stored)
    assert model.dtype == torch.bfloat16


def test_bare_encoder(tmp_path: Path) -> None:
    _, transformers = need_transformers()
    encoder = mt.load(TINY)
    encoder.save(tmp_path, architecture="EsmModel")
    model = transformers.EsmModel.from_pretrained(
        tmp_path, add_pooling_layer=False, attn_implementation="eager"
    ).eval()
    want = run(model, SEQUENCES)["hidden"]
    for got, theirs in zip(encoder.hidden_states(SEQUENCES), want, strict=True):
        assert np.abs(got - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_tokenizer_in_transformers(tmp_path: Path) -> None:
    _, transformers = need_transformers()
    encoder = mt.load(TINY)
    encoder.save(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in SEQUENCES:
        tokens, _ = encoder.tokenizer.encode([text], on_illegal="unknown")
        assert tokenizer(text)["input_ids"] == tokens.tolist()
