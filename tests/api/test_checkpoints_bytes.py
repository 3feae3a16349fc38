"""Bytes of safetensors files: truncation, corruption, bombs, bfloat16, failed writes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from moltide.errors import CheckpointError
from moltide.pretrained.safe_tensors import (
    bfloat16_to_float32,
    float32_to_bfloat16,
    open_tensors,
    write_tensors,
)

GOOD = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)})
HEADER_LENGTH = int.from_bytes(GOOD[:8], "little")


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


CASES = {
    "empty": (b"", "truncated safetensors file: 0 bytes"),
    "seven bytes": (GOOD[:7], "truncated safetensors file: 7 bytes"),
    "half a header": (GOOD[:30], "truncated safetensors file: its header claims"),
    "cut data": (GOOD[:-5], "truncated safetensors file: tensors need 32 bytes .* has 27"),
    "trailing bytes": (GOOD + b"xx", "tensors take 32 bytes after the header, the file has 34"),
    "header bomb": ((10**15).to_bytes(8, "little") + GOOD[8:], "claims 1000000000000000 bytes"),
    "just over": ((10**8 + 1).to_bytes(8, "little") + GOOD[8:], "the format allows 100000000"),
    "shape bomb": (
        with_header({"a": entry([2**40, 2**40], 0, 4)}, b"1234"),
        "corrupt safetensors file: .*[oO]verflow",
    ),
    "size bomb": (with_header({"a": entry([10**12], 0, 4 * 10**12)}, b"1234"), "truncated"),
    "not JSON": (with_header(b"{nonsense"), "corrupt safetensors header"),
    "not UTF-8": (with_header(b'{"\xff": 1}'), "corrupt safetensors header"),
    "a list": (with_header([1, 2]), "not a JSON object"),
    "no offsets": (with_header({"a": {"dtype": "F32", "shape": [1]}}), "'a' has no data_offsets"),
    "overlap": (
        with_header({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"1234"),
        "corrupt safetensors file",
    ),
    "hole": (with_header({"a": entry([1], 4, 8)}, b"12345678"), "corrupt safetensors file"),
    "size and shape": (with_header({"a": entry([2], 0, 4)}, b"1234"), "corrupt safetensors file"),
    "strange dtype": (with_header({"a": entry([1], 0, 4, "Q9")}, b"1234"), "corrupt safetensors"),
    "deep nesting": (with_header(b"[" * 100_000), "corrupt safetensors header"),
    "zip": (
        b"PK\x03\x04" + b"\x14\x00\x08\x08" + b"x" * 64,
        "this is a PyTorch file, not safetensors",
    ),
    "pickle": (
        b"\x80\x02}q\x00(X\x06\x00\x00\x00" + b"x" * 64,
        "this is a PyTorch file, not safetensors",
    ),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error(tmp_path: Path, case: str) -> None:
    content, message = CASES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_tensors(path)
    assert str(path) in str(caught.value)


def test_good_file_reads() -> None:
    """The base of the cases above is good, so that each of them fails for its own reason."""
    assert load(GOOD)["a"].shape == (2, 3)


def read_all(path: Path) -> dict[str, np.ndarray]:
    return {name: stored.read() for name, stored in open_tensors(path).items()}


def test_values(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD)
    got = read_all(path)
    assert got["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert got["b"].dtype == np.float32
    assert got["b"].tolist() == [1, 1, 1, 1]


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(0, len(GOOD) - 1),
    value=st.integers(0, 255),
    keep=st.integers(0, len(GOOD)),
)
def test_any_damage_is_read_or_refused(tmp_path_factory, place: int, value: int, keep: int) -> None:
    """One changed byte or a cut anywhere: arrays of the declared size or CheckpointError."""
    path = tmp_path_factory.mktemp("damage") / "x.safetensors"
    changed = bytearray(GOOD)
    changed[place] = value
    for content in (bytes(changed), GOOD[:keep]):
        path.write_bytes(content)
        try:
            got = read_all(path)
        except CheckpointError:
            continue
        assert sum(values.size for values in got.values()) <= len(GOOD)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_header_is_read_or_refused(tmp_path_factory, header: bytes) -> None:
    path = tmp_path_factory.mktemp("header") / "x.safetensors"
    path.write_bytes(with_header(header))
    with contextlib.suppress(CheckpointError):
        assert read_all(path) == {}


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]), inner
            )
        ),
        max_leaves=10,
    )
)
def test_any_json_header_is_read_or_refused(tmp_path_factory, header: object) -> None:
    path = tmp_path_factory.mktemp("json") / "x.safetensors"
    path.write_bytes(with_header(header, b"1234"))
    with pytest.raises(CheckpointError):
        read_all(path)


def test_a_bomb_allocates_nothing(tmp_path: Path) -> None:
    """With 1 GB of address space to spare, headers that claim terabytes are still just errors."""
    path = tmp_path / "x.safetensors"
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, before[1]))
    try:
        for case in ("header bomb", "just over", "shape bomb", "size bomb"):
            path.write_bytes(CASES[case][0])
            with pytest.raises(CheckpointError):
                open_tensors(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_file_that_shrinks_while_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD)
    stored = open_tensors(path)
    path.write_bytes(GOOD[:-20])
    with pytest.raises(CheckpointError, match="changed while being read"):
        [tensor.read() for tensor in stored.values()]


# ---- bfloat16 ---------------------------------------------------------------------------------


def test_bfloat16_widening_is_exact() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="an independent bfloat16")
    bits = np.arange(2**16, dtype=np.uint16)
    want = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(bfloat16_to_float32(bits), want, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_bfloat16_rounding_is_to_nearest_even(values: list[float]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="an independent bfloat16")
    array = np.array(values, dtype=np.float32)
    want = array.astype(ml_dtypes.bfloat16).astype(np.float32)
    got = bfloat16_to_float32(float32_to_bfloat16(array))
    assert np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_written_file_reads_back(tmp_path: Path, dtype: str) -> None:
    tensors = {
        "a": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    }
    path = tmp_path / "x.safetensors"
    write_tensors(path, tensors, dtype)
    got = read_all(path)
    for name, values in tensors.items():
        want = values if dtype == "float32" else bfloat16_to_float32(float32_to_bfloat16(values))
        assert np.array_equal(got[name], want)
    header = json.loads(path.read_bytes()[8:].split(b"}}")[0].rsplit(b"}", 0)[0] + b"}}")
    assert header["__metadata__"] == {"format": "pt"}


# ---- writes that fail --------------------------------------------------------------------------


def test_disk_full_leaves_the_old_file(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the write stops in the middle."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.ones(4, np.float32)})
    old = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_tensors(path, {"a": np.ones(100_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_folder_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "no" / "x.safetensors", {"a": np.ones(1, np.float32)})
