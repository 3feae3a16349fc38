"""Loading from the Hub, against a local server: cache, offline, revisions, tokens, refusals."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub
from published import TINY, same, tiny_tensors, write_sharded, write_tiny
from torch_file_cases import write_zip

from moltide.errors import CheckpointError
from moltide.pretrained.checkpoint import read_checkpoint
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.locate import bundled_names, locate
from moltide.pretrained.vocabulary import read_tokenizer

VOCAB = Path(__file__).parent.parent / "data" / "esm2_tokenizer" / "vocab.txt"
NAME = "lab/tiny-esm"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub's pauses to retry
    with Hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder, with files beside it that must never be fetched."""
    written = write_tiny(tmp_path / "published")
    (written / "vocab.txt").write_bytes(VOCAB.read_bytes())
    (written / "pytorch_model.bin").write_bytes(b"pickle")
    (written / "modeling.py").write_text("raise SystemExit")
    return written


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(name: str = NAME, **options: object) -> dict[str, np.ndarray]:
    """What `moltide.load` reads, without the engine."""
    files = locate(name, **options)  # type: ignore[arg-type]
    checkpoint = read_checkpoint(files)
    read_tokenizer(files, checkpoint.config, checkpoint.notes)
    return dict(checkpoint.arrays())


def local(folder: Path) -> dict[str, np.ndarray]:
    return dict(read_checkpoint(FolderFiles(folder)).arrays())


def test_downloads_once_and_only_what_is_allowed(hub: Hub, folder: Path, cache: Path) -> None:
    hub.add(NAME, folder)
    assert same(load(cache_dir=cache), local(folder))
    assert sorted(hub.asked_for()) == ["config.json", "model.safetensors", "vocab.txt"]
    hub.requests.clear()
    load(cache_dir=cache)
    assert hub.asked_for() == []


def test_shards(hub: Hub, tmp_path: Path, cache: Path) -> None:
    parts = write_sharded(tmp_path / "parts", tiny_tensors())
    hub.add(NAME, parts)
    assert same(load(cache_dir=cache), local(parts))
    assert len([name for name in hub.asked_for() if name.endswith(".safetensors")]) == 3


def test_another_model_type_costs_one_small_file(hub: Hub, folder: Path, cache: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**TINY, "model_type": "llama"}))
    hub.add(NAME, folder)
    with pytest.raises(CheckpointError, match="model_type is 'llama'"):
        load(cache_dir=cache)
    assert hub.asked_for() == ["config.json"]


def test_revisions(hub: Hub, tmp_path: Path, folder: Path, cache: Path) -> None:
    repository = hub.add(NAME, folder)
    newer = write_tiny(tmp_path / "newer", tiny_tensors(seed=9))
    old, new = "a" * 40, "b" * 40
    repository.commits[new] = {path.name: path.read_bytes() for path in newer.iterdir()}
    repository.revisions |= {"main": new, "v1": old}
    assert same(load(cache_dir=cache), local(newer))
    assert same(load(cache_dir=cache, revision="v1"), local(folder))
    assert same(load(cache_dir=cache, revision=old), local(folder))
    with pytest.raises(CheckpointError, match=r"has no revision 'v2'"):
        load(cache_dir=cache, revision="v2")


def test_a_push_in_between_mixes_nothing(
    hub: Hub, tmp_path: Path, folder: Path, cache: Path
) -> None:
    """The first file settles the commit of the rest."""
    repository = hub.add(NAME, folder)
    files = locate(NAME, cache_dir=cache)
    assert files.get("config.json") is not None
    repository.revisions["main"] = "b" * 40
    repository.commits["b" * 40] = {"model.safetensors": b"other"}
    assert same(dict(read_checkpoint(files).arrays()), local(folder))


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline(
    hub: Hub,
    folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_environment: bool,
) -> None:
    hub.add(NAME, folder)
    options: dict[str, object] = {"cache_dir": cache}
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        options["local_files_only"] = True
    with pytest.raises(CheckpointError, match=r"offline .*not in the cache") as caught:
        load(**options)
    assert str(cache) in str(caught.value)
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    load(cache_dir=cache)
    hub.requests.clear()
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert same(load(**options), local(folder))
    assert hub.requests == []


def test_offline_with_half_a_cache(hub: Hub, folder: Path, cache: Path) -> None:
    hub.add(NAME, folder)
    assert locate(NAME, cache_dir=cache).get("config.json") is not None
    with pytest.raises(CheckpointError, match=r"offline.*no weights; looked for model.safetensors"):
        load(cache_dir=cache, local_files_only=True)


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(CheckpointError) as caught:
        load(cache_dir=cache)
    message = str(caught.value)
    assert f"http://127.0.0.1:{port} could not be reached" in message
    assert str(cache) in message


def test_network_lost_after_the_first_load(hub: Hub, folder: Path, cache: Path) -> None:
    hub.add(NAME, folder)
    load(cache_dir=cache)
    hub.broken = True
    assert same(load(cache_dir=cache), local(folder))


def test_not_found_says_what_was_tried(hub: Hub, cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load("lab/nothing", cache_dir=cache)
    message = str(caught.value)
    for part in (
        "lab/nothing",
        hub.endpoint,
        "does not exist, or is private",
        "HF_TOKEN",
        "no token was sent",
        "no folder lab/nothing",
        "bundled models",
    ):
        assert part in message


def test_private_and_tokens(
    hub: Hub, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, folder, token="hf_secret")
    with pytest.raises(CheckpointError, match=r"is private: .*no token was sent"):
        load(cache_dir=cache)
    with pytest.raises(CheckpointError, match=r"a token was sent") as caught:
        load(cache_dir=cache, token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)
    assert same(load(cache_dir=cache, token="hf_secret"), local(folder))
    assert {token for _, _, token in hub.requests} == {None, "Bearer hf_wrong", "Bearer hf_secret"}
    hub.requests.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load(cache_dir=cache)
    assert {token for _, _, token in hub.requests} == {"Bearer hf_secret"}


def test_gated(hub: Hub, folder: Path, cache: Path) -> None:
    hub.add(NAME, folder, token="hf_secret", gated=True)
    with pytest.raises(CheckpointError, match=r"is gated: accept its terms"):
        load(cache_dir=cache, token="hf_other")


def test_server_error(hub: Hub, folder: Path, cache: Path) -> None:
    hub.add(NAME, folder)
    hub.broken = True
    with pytest.raises(CheckpointError, match=r"not available|503"):
        load(cache_dir=cache)


def test_only_a_pytorch_file_on_the_hub(hub: Hub, folder: Path, cache: Path) -> None:
    want = local(folder)
    (folder / "model.safetensors").unlink()
    write_zip(folder / "pytorch_model.bin", tiny_tensors())
    hub.add(NAME, folder)
    assert same(load(cache_dir=cache), want)
    assert "pytorch_model.bin" in hub.asked_for()


def test_encoder_and_adapter_from_the_hub(hub: Hub, folder: Path, cache: Path) -> None:
    import moltide as mt

    data = VOCAB.parent.parent
    hub.add(NAME, data / "esm2_tiny_random")
    hub.add("lab/adapter", data / "peft_tiny")
    encoder = mt.load(NAME, cache_dir=cache)
    assert encoder.name == NAME
    encoder.load_adapter("lab/adapter", "a", cache_dir=cache)
    assert not np.allclose(encoder.embed(["MKT"]), encoder.embed(["MKT"], adapter="a"))
    assert hub.asked_for().count("adapter_model.safetensors") == 1


def test_folder_before_bundled_before_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "lab" / "tiny-esm", tiny_tensors(seed=3))
    assert same(load(), local(tmp_path / "lab" / "tiny-esm"))
    assert hub.requests == []
    for name in bundled_names():
        (tmp_path / name).mkdir()  # a stray folder of that name holds no model
        assert isinstance(locate(name), FolderFiles)


@pytest.mark.parametrize(
    "name", ["./none", "/no/such/folder", "a/b/c", "up/../there", "what?", "nosuch"]
)
def test_names_that_cannot_be_hub_ids(hub: Hub, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no such folder; bundled models"):
        load(name)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["stray", "lab/stray"])
def test_a_folder_without_a_model_is_not_looked_up(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import moltide as mt

    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=f"^{name}: no config.json"):
        load(name)
    encoder = mt.load(VOCAB.parent.parent / "esm2_tiny_random")
    with pytest.raises(CheckpointError, match=f"^{name}: no adapter_config.json"):
        encoder.load_adapter(name)
    assert hub.requests == []


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"give the folder"):
        load(str(folder / "model.safetensors"))
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin is a file; give the folder"):
        load(str(folder / "pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"is empty"):
        load("")
