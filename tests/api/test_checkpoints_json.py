"""Any JSON in any side file is understood or refused with CheckpointError, never anything else."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import TINY, tiny_tensors, write_sharded, write_tiny

from moltide.errors import CheckpointError
from moltide.peft_format import read_adapter
from moltide.pretrained import esm
from moltide.pretrained.checkpoint import read_checkpoint
from moltide.pretrained.files import FolderFiles
from moltide.pretrained.vocabulary import read_tokenizer

DATA = Path(__file__).parent.parent / "data"

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from([0, 1, -1, 2, 10**30, "esm", "rotary", "query", "*", "("]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["content", "query", "*"]), inner)
    ),
    max_leaves=4,
)
_OPTIONAL = "tie_word_embeddings rope_theta eos_token_id cls_token_id is_decoder id2label"
_FOREIGN = "quantization_config moltide hidden_act vocab_list format"
CONFIG_FIELDS = st.sampled_from([*TINY, *_OPTIONAL.split(), *_FOREIGN.split()])
ADAPTER_FIELDS = st.sampled_from(
    [
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "rank_pattern",
        "bias",
        "alpha_pattern",
        "use_rslora",
        "init_lora_weights",
        "modules_to_save",
        "lora_dropout",
        "peft_type",
        "base_model_name_or_path",
    ]
)
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextlib.contextmanager
def only_checkpoint_errors() -> Any:
    with warnings.catch_warnings(), contextlib.suppress(CheckpointError):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model"))


@quick
@given(changes=st.dictionaries(CONFIG_FIELDS, ANY_JSON, min_size=1, max_size=2))
def test_config(model: Path, changes: dict[str, Any]) -> None:
    (model / "config.json").write_text(json.dumps({**TINY, **changes}))
    with only_checkpoint_errors():
        found = read_checkpoint(FolderFiles(model))
        listed = found.published.get("vocab_list")
        read_tokenizer(FolderFiles(model), found.config, found.notes, listed)
        assert found.config["width"] == 32


@quick
@given(weight_map=ANY_JSON | st.dictionaries(st.just("lm_head.bias"), ANY_JSON))
def test_index(tmp_path_factory: pytest.TempPathFactory, weight_map: Any) -> None:
    folder = write_sharded(tmp_path_factory.mktemp("shards"), tiny_tensors(), shards=1)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with only_checkpoint_errors():
        read_checkpoint(FolderFiles(folder))


@quick
@given(
    part=st.sampled_from(
        ["model", "added_tokens", "post_processor", "pre_tokenizer", "normalizer"]
    ),
    value=ANY_JSON,
)
def test_tokenizer_json(tmp_path: Path, part: str, value: Any) -> None:
    document = json.loads((DATA / "esm2_tokenizer" / "tokenizer.json").read_text())
    document[part] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with only_checkpoint_errors():
        read_tokenizer(FolderFiles(tmp_path), {"vocab": 33, "pad_token": 1, "mask_token": 32}, [])


@quick
@given(
    name=st.sampled_from(["tokenizer_config.json", "special_tokens_map.json"]),
    settings_=st.dictionaries(
        st.sampled_from(["tokenizer_class", "mask_token", "pad_token", "cls_token"]), ANY_JSON
    ),
)
def test_tokenizer_settings(tmp_path: Path, name: str, settings_: dict[str, Any]) -> None:
    shutil.copyfile(DATA / "esm2_tokenizer" / "vocab.txt", tmp_path / "vocab.txt")
    (tmp_path / name).write_text(json.dumps(settings_))
    with only_checkpoint_errors():
        read_tokenizer(FolderFiles(tmp_path), {"vocab": 33, "pad_token": 1, "mask_token": 32}, [])


@quick
@given(changes=st.dictionaries(ADAPTER_FIELDS, ANY_JSON, min_size=1, max_size=2))
def test_adapter_config(tmp_path: Path, changes: dict[str, Any]) -> None:
    golden = DATA / "peft_tiny"
    shutil.copyfile(golden / "adapter_model.safetensors", tmp_path / "adapter_model.safetensors")
    config = json.loads((golden / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    with only_checkpoint_errors():
        read_adapter(FolderFiles(tmp_path), esm.NAMES, 3, 64)
