"""Weights stay in the checkpoint's file until somebody needs them in memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from published import tiny_tensors, write_tiny
from safetensors.numpy import save_file

import moltide as mt
from moltide import _engine
from moltide.encoder import Encoder
from moltide.errors import CheckpointError
from moltide.pretrained.safe_tensors import open_tensors

SEQUENCES = ["MKTVRQERLKSIV", "A", "GGHLM"]
WEIGHT = "layers.1.mlp.up.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny")


def weights_file(folder: Path) -> Path:
    return folder / "model.safetensors"


def resident(encoder: Encoder) -> int:
    """Bytes of float32 weights in memory."""
    return int(encoder.model.plan_memory([10])["weights"])


def total(encoder: Encoder) -> int:
    return sum(4 * int(np.prod(shape)) for _, shape in encoder.model.parameters())


def eager(encoder: Encoder) -> Encoder:
    """The same model, made of arrays."""
    model = _engine.Model(encoder.config, encoder.dtype)
    for name, _ in model.parameters():
        model.set_parameter(name, encoder.model.get_parameter(name))
    return Encoder(model, encoder.tokenizer)


def trainer(encoder: Encoder, mode: str) -> _engine.Trainer:
    encoder.set_head({"pool": "mean", "outputs": 1})
    encoder.add_adapter("a", rank=2)
    made = _engine.Trainer(encoder.model, {"mode": mode, "adapter": "a", "total_steps": 4})
    tokens, cu = encoder.tokenizer.encode(SEQUENCES)
    made.set_dataset(tokens, cu.astype(np.int64), np.arange(3, dtype=np.float32)[:, None])
    return made


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_results_are_those_of_weights_in_memory(folder: Path, isa: str, dtype: str) -> None:
    lazy = mt.load(folder, dtype=dtype)
    assert resident(lazy) < 0.5 * total(lazy)
    other = eager(lazy)
    assert resident(other) == total(other)
    assert np.array_equal(lazy.embed(SEQUENCES), other.embed(SEQUENCES))
    for got, want in zip(lazy.logits(SEQUENCES), other.logits(SEQUENCES), strict=True):
        assert np.array_equal(got, want)
    assert resident(lazy) < 0.5 * total(lazy)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_steps_are_those_of_weights_in_memory(folder: Path, mode: str) -> None:
    lazy = mt.load(folder)
    other = eager(lazy)
    states = []
    for encoder in (lazy, other):
        made = trainer(encoder, mode)
        for _ in range(2):
            made.step(np.arange(3))
        states.append(made.state())
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[1])
    assert (resident(lazy) < 0.5 * total(lazy)) == (mode == "lora")


@pytest.mark.parametrize("dtype", ["F32", "F16", "F64"])
def test_values_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    kind = {"F32": np.float32, "F16": np.float16, "F64": np.float64}[dtype]
    tensors = tiny_tensors()
    name = "esm.encoder.layer.1.intermediate.dense.weight"
    special = np.array([0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 3e-5, 65504.0, 1.0 / 3.0, -1.5])
    tensors[name].flat[: len(special)] = special
    folder = write_tiny(tmp_path / dtype)
    stored = {key: value.astype(kind) for key, value in tensors.items()}
    save_file(stored, weights_file(folder), {"format": "pt"})
    want = stored[name].astype(np.float32)
    got = np.asarray(mt.load(folder).model.get_parameter(WEIGHT))
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32))


def test_values_of_bfloat16(folder: Path, tmp_path: Path) -> None:
    mt.load(folder).save(tmp_path / "half", dtype="bf16")
    stored = open_tensors(weights_file(tmp_path / "half"))
    want = stored["esm.encoder.layer.1.intermediate.dense.weight"].read()
    assert np.array_equal(mt.load(tmp_path / "half").model.get_parameter(WEIGHT), want)


def test_a_parameter_that_is_set_is_no_longer_the_files(folder: Path) -> None:
    encoder = mt.load(folder)
    values = np.zeros_like(encoder.model.get_parameter(WEIGHT))
    encoder.model.set_parameter(WEIGHT, values)
    assert not np.asarray(encoder.model.get_parameter(WEIGHT)).any()
    assert not np.array_equal(encoder.embed(SEQUENCES), mt.load(folder).embed(SEQUENCES))


def test_saving_over_the_files_it_was_loaded_from(folder: Path) -> None:
    encoder = mt.load(folder)
    before = encoder.embed(SEQUENCES)
    encoder.save(folder)
    encoder.save(folder)
    assert np.array_equal(mt.load(folder).embed(SEQUENCES), before)


def test_a_deleted_file_is_still_read(folder: Path) -> None:
    encoder = mt.load(folder)
    weights_file(folder).unlink()
    assert np.asarray(encoder.model.get_parameter(WEIGHT)).any()
    made = trainer(encoder, "full")
    assert np.isfinite(made.step(np.arange(3))["loss"])


@pytest.mark.parametrize("how", ["cut short", "written over"])
def test_a_file_changed_in_place_is_refused(folder: Path, how: str) -> None:
    encoder = mt.load(folder)
    before = encoder.embed(SEQUENCES)
    path = weights_file(folder)
    if how == "cut short":
        os.truncate(path, path.stat().st_size // 2)
    else:
        times = path.stat()
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    message = "needs .* the file gave|changed after the model was loaded"
    with pytest.raises(CheckpointError, match=message):
        encoder.model.get_parameter(WEIGHT)
    with pytest.raises(CheckpointError, match=message):
        trainer(encoder, "full")
    assert np.array_equal(encoder.embed(SEQUENCES), before)


def test_a_merge_that_cannot_read_changes_nothing(folder: Path) -> None:
    encoder = mt.load(folder)
    encoder.add_adapter("a", rank=2, targets=["attn.q", "mlp.down"])
    for name, shape in encoder.model.parameters():
        if name.endswith("lora_b"):
            encoder.model.set_parameter(name, np.full(shape, 0.1, np.float32))
    before = encoder.embed(SEQUENCES), encoder.embed(SEQUENCES, adapter="a")
    os.truncate(weights_file(folder), 100)
    with pytest.raises(CheckpointError):
        encoder.merge_adapter("a")
    assert np.array_equal(encoder.embed(SEQUENCES), before[0])
    assert np.array_equal(encoder.embed(SEQUENCES, adapter="a"), before[1])


def test_nan_in_a_weight_is_refused_at_once(folder: Path) -> None:
    tensors = tiny_tensors()
    tensors["esm.encoder.layer.0.attention.self.key.weight"][3, 2] = np.nan
    save_file(tensors, weights_file(folder), {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"key.weight' has 1 NaN or infinite values among"):
        mt.load(folder)


def test_what_the_engine_is_told_of_a_file_is_checked(folder: Path) -> None:
    model = mt.load(folder).model
    path = str(weights_file(folder))
    with pytest.raises(ValueError, match="dtype 'I8' of a file, allowed F32"):
        model.load_parameters(path, [(WEIGHT, "w", "I8", 0)])
    with pytest.raises(KeyError, match="no parameter 'nonsense'"):
        model.load_parameters(path, [("nonsense", "w", "F32", 0)])
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        model.load_parameters(path + "x", [(WEIGHT, "w", "F32", 0)])
    with pytest.raises(CheckpointError, match=r"tensor 'w' needs .* values, the file gave 0"):
        model.load_parameters(path, [(WEIGHT, "w", "F32", 1 << 40)])
