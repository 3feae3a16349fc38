"""PyTorch files without PyTorch: values, views, what is refused, damage of any kind."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import TINY, same, tiny_tensors, write_tiny
from torch_file_cases import Global, Run, Tensor, arrays, dumps, write_zip

from moltide.errors import CheckpointError
from moltide.pretrained.checkpoint import read_checkpoint
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.safe_pickle import read_pickle
from moltide.pretrained.torch_files import open_torch

DATA = Path(__file__).parent.parent / "data" / "torch_files"
COMMITTED = ("zip.bin", "legacy.bin", "nested.pt")


def equal(path: Path) -> None:
    found = open_torch(path)
    got = {name: found[name].read() for name in arrays()}
    for name, values in arrays().items():
        assert got[name].dtype == np.float32
        assert got[name].shape == values.shape, name
        assert np.array_equal(got[name], values), name


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_files(name: str) -> None:
    """Of torch 2.13: the zip format, the one before 1.6, and weights under "model"."""
    equal(DATA / name)
    found = open_torch(DATA / name)
    assert found["counter"].dtype == "I64"
    assert found["half"].dtype == "F16"
    # Views share a storage and stay where they are; only those with gaps carry strides.
    assert found["rows"].start == found["plain"].start + 6 * 4
    assert found["column"].strides == (6,)
    assert found["rows"].strides is None
    with pytest.raises(CheckpointError, match="dtype I64"):
        found["counter"].read()


@pytest.mark.parametrize("zip_format", [True, False])
def test_files_of_this_torch(tmp_path: Path, zip_format: bool) -> None:
    torch = pytest.importorskip("torch", reason="writes the files")
    base = torch.arange(30.0).reshape(5, 6)
    saved = OrderedDict(
        base=base,
        again=base,
        transposed=base.t(),
        block=base[1:4, 2:5],
        half=base.half(),
        brain=base.bfloat16()[:, ::2],
        counter=torch.tensor([1, 2], dtype=torch.uint8),
        parameter=torch.nn.Parameter(base[0]),
        buffer=torch.nn.Buffer(base[1]),
    )
    path = tmp_path / "x.bin"
    torch.save(saved, path, _use_new_zipfile_serialization=zip_format)
    found = open_torch(path)
    assert found.keys() == saved.keys()
    for name, tensor in saved.items():
        if name != "counter":
            assert np.array_equal(found[name].read(), tensor.detach().float().numpy()), name


def test_parts_of_a_tensor() -> None:
    """Rows of a fused matrix, as tensors of their own."""
    found, want = open_torch(DATA / "zip.bin"), arrays()
    for name in ("plain", "half", "transposed"):
        part = found[name].part(1, 2, "part")
        assert part.name == "part"
        assert np.array_equal(part.read(), want[name][1:3])
    with pytest.raises(ValueError, match="rows 3:5"):
        found["plain"].part(3, 2, "x")


# ---- a checkpoint of PyTorch files --------------------------------------------------------------


def of_pickle(path: Path, content: bytes, storages: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        for key, data in (storages or {"0": bytes(16)}).items():
            archive.writestr(f"a/data/{key}", data)
    return path


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    return dict(read_checkpoint(FolderFiles(folder)).arrays())


def test_a_checkpoint_without_safetensors(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    want = arrays_of(write_tiny(tmp_path / "safe", tensors))
    folder = write_tiny(tmp_path / "torch", tensors)
    (folder / "model.safetensors").unlink()
    write_zip(folder / "pytorch_model.bin", tensors)
    assert same(arrays_of(folder), want)


def test_safetensors_count_if_both_are_there(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    folder = write_tiny(tmp_path, tensors)
    write_zip(folder / "pytorch_model.bin", {name: v + 1 for name, v in tensors.items()})
    assert same(arrays_of(folder), arrays_of(write_tiny(tmp_path / "other", tensors)))


def test_shards(tmp_path: Path) -> None:
    import json

    tensors = tiny_tensors()
    names = sorted(tensors)
    weight_map = {}
    for number in (1, 2):
        shard = f"pytorch_model-0000{number}-of-00002.bin"
        part = {name: tensors[name] for name in names[number - 1 :: 2]}
        write_zip(tmp_path / shard, part)
        weight_map.update(dict.fromkeys(part, shard))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert same(arrays_of(tmp_path), arrays_of(write_tiny(tmp_path / "one", tensors)))
    weight_map["lm_head.bias"] = "../elsewhere.bin"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=r"said to be in '../elsewhere.bin'.*\.bin file"):
        arrays_of(tmp_path)


def test_an_encoder_over_strided_tensors(tmp_path: Path) -> None:
    """Transposed weights lie in the file with gaps; the encoder has their values."""
    import moltide as mt

    torch = pytest.importorskip("torch", reason="writes the file")
    tensors = tiny_tensors()
    want = mt.load(write_tiny(tmp_path / "safe", tensors)).embed(["MKT"])
    folder = write_tiny(tmp_path / "torch", tensors)
    (folder / "model.safetensors").unlink()
    views = {
        name: torch.from_numpy(np.ascontiguousarray(values.T)).t()
        for name, values in tensors.items()
    }
    torch.save(views, folder / "pytorch_model.bin")
    assert np.array_equal(mt.load(folder).embed(["MKT"]), want)


# ---- nothing is run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda mark: Run("os", "system", f"touch {mark}"), "os.system"),
        (lambda mark: Run("builtins", "eval", f"open({str(mark)!r}, 'w')"), "builtins.eval"),
        (lambda mark: Run("pathlib", "Path.touch", str(mark)), "pathlib.Path.touch"),
        (lambda mark: {"a": Run("torch", "load", str(mark))}, "torch.load"),
        (lambda mark: Run("collections", "namedtuple", "a", "b"), "collections.namedtuple"),
        (lambda mark: Run("numpy.core.multiarray", "_reconstruct", 1), "numpy.core.multiarray"),
        (lambda mark: Run("argparse", "Namespace"), "argparse.Namespace"),
        (
            lambda mark: Run(
                "torch._tensor", "_rebuild_from_type_v2", Global("os", "mkdir"), 0, (str(mark),), 0
            ),
            "os.mkdir",
        ),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_calls_are_refused_and_not_run(
    tmp_path: Path, value: Any, named: str, legacy: bool
) -> None:
    mark = tmp_path / "was-run"
    content = dumps(value(mark))
    path = tmp_path / "x.bin"
    if legacy:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        head = [dumps(one) for one in (0x1950A86A20F9469CFC6C, 1001, system)]
        path.write_bytes(b"".join([*head, content, dumps([])]))
    else:
        of_pickle(path, content)
    with pytest.raises(CheckpointError) as caught:
        open_torch(path)
    assert not mark.exists()
    assert f"asks for {named}" in str(caught.value)
    assert "nothing of it was run" in str(caught.value)


def test_the_attack_would_work(tmp_path: Path) -> None:
    """The case above is one: Python's own reader runs it."""
    mark = tmp_path / "was-run"
    pickle.loads(dumps(Run("os", "system", f"touch {mark}")))
    assert mark.exists()


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_malicious_file_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="writes the file")
    mark = tmp_path / "was-run"
    torch.save({"weight": torch.ones(2), "x": Evil(str(mark))}, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=r"asks for (posix|os|nt)\.mkdir"):
        open_torch(tmp_path / "x.bin")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Objects made by other opcodes than calls, and state set on anything but a dictionary.
        (b"\x80\x02cos\nsystem\n)\x81.", "opcode NEWOBJ"),
        (b"(S'x'\nios\nsystem\n.", "opcode INST"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02]K\x01b.", "the state of a list"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01b.", "the state of a Name"),
        (b"Pweights\n.", "opcode PERSID"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "no tensors by name"),
    ],
)
def test_other_opcodes_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_torch(of_pickle(tmp_path / "x.bin", content))


# ---- files that do not hold what they say -------------------------------------------------------


def tensor_file(path: Path, *, kind: str = "FloatStorage", **changes: Any) -> Path:
    given = {"key": "0", "shape": (2, 2), "strides": (2, 1), "offset": 0, **changes}
    return of_pickle(path, dumps({"w": Tensor(kind=kind, **given)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (2, 3), "strides": (3, 1)}, "'w' of shape .* in a storage of 4 elements"),
        ({"offset": 1}, "in a storage of 4 elements"),
        ({"strides": (3, 1)}, "in a storage of 4 elements"),
        ({"shape": (10**6, 10**6), "strides": (0, 0)}, "in a storage of 4 elements"),
        ({"shape": (-2, 2)}, "a tensor of offset 0, shape"),
        ({"strides": (2,)}, "a tensor of offset 0, shape"),
        ({"offset": -4}, "a tensor of offset -4"),
        ({"shape": (True, 2)}, "a tensor of offset 0, shape"),
        ({"key": "7"}, "tensor 'w' has no storage"),
        ({"kind": "QInt8Storage"}, "a storage of class torch.QInt8Storage"),
        ({"kind": "ComplexFloatStorage"}, "a storage of class torch.ComplexFloatStorage"),
    ],
)
def test_tensors_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_torch(tensor_file(tmp_path / "x.bin", **changes))


def test_the_base_of_these_is_good(tmp_path: Path) -> None:
    assert open_torch(tensor_file(tmp_path / "x.bin"))["w"].read().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch file"),
        (b"hello world", "not a PyTorch file: it starts with b'hell'"),
        (b"version https://git-lfs", "Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "truncated or corrupt PyTorch file"),
        (dumps({"a": 1}), "a pickle, but not of PyTorch"),
        (dumps(0x1950A86A20F9469CFC6C) + dumps(1000) + dumps({}), "protocol 1000; allowed: 1001"),
        (b"\x80\x02\x8d" + struct.pack("<Q", 2**62), "truncated or corrupt"),
    ],
)
def test_other_files_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_torch(path)
    assert str(path) in str(caught.value)


def test_archives_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    for content, message in (
        ({"readme.txt": b"x"}, "not of PyTorch: no data.pkl"),
        ({"a/data.pkl": dumps({}), "a/byteorder": b"big"}, "byte order b'big'; allowed: little"),
        ({"a/data.pkl": dumps([1, 2])}, "the file holds a list; expected a state_dict"),
        ({"a/data.pkl": dumps({"epoch": 3})}, "the file holds keys 'epoch'; expected"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        with pytest.raises(CheckpointError, match=message):
            open_torch(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", dumps({"w": Tensor("0", "FloatStorage", (4,), (1,))}))
        archive.writestr("a/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="a/data/0 is compressed"):
        open_torch(path)


@pytest.mark.parametrize("name", COMMITTED)
def test_every_truncation_is_an_error(tmp_path: Path, name: str) -> None:
    """Cut anywhere: nothing but CheckpointError, before any value is read."""
    content = (DATA / name).read_bytes()
    path = tmp_path / "x.bin"
    for keep in range(0, len(content), 7):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError):
            open_torch(path)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(COMMITTED), place=st.integers(0, 2**16), value=st.integers(0, 255))
def test_any_damage_is_read_or_refused(tmp_path_factory, name: str, place: int, value: int) -> None:
    content = bytearray((DATA / name).read_bytes())
    content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damage") / "x.bin"
    path.write_bytes(content)
    try:
        got = open_torch(path)
    except CheckpointError:
        return
    for stored in got.values():
        if stored.dtype in ("F32", "F16", "BF16", "F64"):
            assert stored.read().size <= len(content)


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_pickle_is_data_or_an_error(content: bytes) -> None:
    """Never another exception than Python's for bad values, never a call."""

    def refuse(call: Any) -> Any:
        raise AssertionError(call)

    with contextlib.suppress(ValueError, IndexError, TypeError, KeyError, AssertionError):
        read_pickle(io.BytesIO(b"\x80\x02" + content), refuse)


def test_a_bomb_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memo = b"\x80\x02K\x01r" + struct.pack("<I", 2**32 - 1) + b"."
    claims = b"\x80\x02\x8e" + struct.pack("<Q", 2**40) + b"x."
    resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, before[1]))
    try:
        for content in (memo, claims):
            path.write_bytes(content)
            with pytest.raises(CheckpointError):
                open_torch(path)
            with pytest.raises(CheckpointError):
                open_torch(of_pickle(path, content))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_file_that_shrinks_while_read(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    shutil.copy(DATA / "zip.bin", path)
    found = open_torch(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CheckpointError, match="changed while being read"):
        [stored.read() for stored in found.values() if stored.dtype == "F32"]
