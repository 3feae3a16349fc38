"""LoRA adapters in PEFT's format: goldens PEFT wrote, PEFT itself where installed, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from torch_file_cases import write_zip
from transformers_models import SEQUENCES, make, need_transformers, run

import moltide as mt
from comparison import assert_close
from moltide.encoder import Encoder
from moltide.errors import CheckpointError, ConfigError
from moltide.peft_format import target_modules
from moltide.pretrained import esm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*outside the vocabulary.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DATA = Path(__file__).parent.parent / "data"
TINY = DATA / "esm2_tiny_random"
GOLDEN = DATA / "peft_tiny"


def fill(encoder: Encoder, name: str, seed: int) -> None:
    """Give an adapter's B matrices values, so that it changes results."""
    rng = np.random.default_rng(seed)
    for parameter, shape in encoder.model.parameters():
        if parameter.startswith(f"adapters.{name}.") and parameter.endswith("lora_b"):
            encoder.model.set_parameter(parameter, rng.normal(0, 0.2, shape).astype(np.float32))


# ---- the golden adapter, written by PEFT --------------------------------------------------------


def test_golden_adapter() -> None:
    """Hidden states and classifier outputs of a PEFT model, without PEFT or torch."""
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "lab")
    sequences = json.loads((GOLDEN / "golden.json").read_text())["sequences"]
    want = load_file(GOLDEN / "golden.safetensors")
    hidden = encoder.hidden_states(sequences, adapter="lab")
    for i, states in enumerate(hidden):
        assert_close(
            states[-1], want["last_hidden"][i][want["attention_mask"][i].astype(bool)], 1e-5
        )
    assert_close(encoder.predict(sequences, adapter="lab"), want["logits"], 1e-5)
    encoder.merge_adapter("lab")
    assert encoder.adapters == []
    assert_close(encoder.predict(sequences), want["logits"], 1e-5)


def test_golden_adapter_written_back_is_the_same(tmp_path: Path) -> None:
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "lab")
    encoder.save_adapter("lab", tmp_path)
    one, two = (load_file(f / "adapter_model.safetensors") for f in (GOLDEN, tmp_path))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    ours, theirs = (json.loads((f / "adapter_config.json").read_text()) for f in (tmp_path, GOLDEN))
    for key in ("r", "lora_alpha", "peft_type", "task_type", "bias", "use_rslora"):
        assert ours[key] == theirs[key]
    assert sorted(ours["target_modules"]) == sorted(theirs["target_modules"])


def test_several_adapters_at_once(tmp_path: Path) -> None:
    """One batch, an adapter for each sequence: what each would give alone, bit for bit."""
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "a")
    encoder.add_adapter("b", rank=3, alpha=5.0, targets=("attn.k", "mlp.down"), seed=4)
    fill(encoder, "b", 1)
    assert encoder.adapters == ["a", "b"]
    names: list[str | None] = ["a", None, "b", "b", "a", None]
    together = encoder.embed(SEQUENCES, adapter=names)
    hidden = encoder.hidden_states(SEQUENCES, adapter=names, batch_tokens=100)
    for i, (text, name) in enumerate(zip(SEQUENCES, names, strict=True)):
        assert np.array_equal(together[i], encoder.embed([text], adapter=name)[0])
        assert np.array_equal(hidden[i], encoder.hidden_states([text], adapter=name)[0])
    rows = [encoder.embed([SEQUENCES[0]], adapter=name)[0] for name in (None, "a", "b")]
    assert np.array_equal(encoder.embed(iter(SEQUENCES), adapter=names), together)
    assert not np.allclose(rows[0], rows[1])
    assert not np.allclose(rows[1], rows[2])
    encoder.remove_adapter("a")
    assert encoder.adapters == ["b"]
    assert np.array_equal(encoder.embed([SEQUENCES[0]])[0], rows[0])


def test_adapters_with_heads_of_their_own(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(GOLDEN, other)
    tensors = load_file(other / "adapter_model.safetensors")
    changed = {k: v + (1 if "classifier" in k else 0) for k, v in tensors.items()}
    save_file(changed, other / "adapter_model.safetensors")
    alone = []
    for folder in (GOLDEN, other):
        encoder = mt.load(TINY)
        encoder.load_adapter(folder, "x")
        alone.append(encoder.predict(SEQUENCES, adapter="x"))
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "a")
    encoder.load_adapter(other, "b")
    assert np.array_equal(encoder.predict(SEQUENCES, adapter="a"), alone[0])
    assert np.array_equal(encoder.predict(SEQUENCES, adapter="b"), alone[1])
    said, read = encoder.predict_with_input(SEQUENCES, adapter="b")
    assert np.array_equal(said, alone[1])
    assert np.array_equal(read, encoder.embed(SEQUENCES, "cls", adapter="b"))
    mixed = encoder.predict(SEQUENCES, adapter=["a", "b", "b", "a", "b", "a"])
    for i, which in enumerate([0, 1, 1, 0, 1, 0]):
        assert np.array_equal(mixed[i], alone[which][i])
    encoder.save_adapter("b", tmp_path / "b")
    assert np.array_equal(
        load_file(tmp_path / "b" / "adapter_model.safetensors")[
            "base_model.model.classifier.out_proj.bias"
        ],
        changed["base_model.model.classifier.out_proj.bias"],
    )


@pytest.mark.parametrize(
    ("targets", "want"),
    [
        (("attn.q", "attn.v"), ["query", "value"]),
        (
            ("attn.q", "attn.k", "attn.v", "attn.out"),
            ["query", "key", "value", "attention.output.dense"],
        ),
        (("mlp.up",), ["intermediate.dense"]),
        (("mlp.down",), r"(.*\.)?encoder\.layer\.\d+(\.output\.dense)"),
    ],
)
def test_target_modules(targets: tuple[str, ...], want: Any) -> None:
    assert target_modules(esm.NAMES, targets) == want


def test_an_adapter_as_a_pytorch_file(tmp_path: Path) -> None:
    """What PEFT wrote before it knew safetensors."""
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "new")
    folder = golden_with(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    write_zip(folder / "adapter_model.bin", load_file(weights))
    weights.unlink()
    encoder.load_adapter(folder, "old")
    one, two = (encoder.hidden_states(["MKT"], adapter=name)[0] for name in ("new", "old"))
    assert np.array_equal(one, two)


# ---- PEFT itself --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peft() -> Any:
    need_transformers()
    return pytest.importorskip("peft", reason="compares with PEFT")


ALL = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down")


@pytest.mark.parametrize(
    "targets", [ALL[:4], ("attn.q",), ("mlp.down",), ("attn.out", "mlp.down"), ALL]
)
@pytest.mark.parametrize("kind", ["EsmForMaskedLM", "EsmForSequenceClassification"])
def test_peft_loads_ours(peft: Any, tmp_path: Path, targets: tuple[str, ...], kind: str) -> None:
    model = make(tmp_path / "base", 16, kind)
    encoder = mt.load(tmp_path / "base")
    encoder.add_adapter("mine", rank=3, alpha=7.5, dropout=0.1, targets=targets, seed=2)
    fill(encoder, "mine", 3)
    encoder.save_adapter("mine", tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(model, tmp_path / "adapter").eval()
    adapted = [n for n, _ in theirs.named_modules() if n.endswith("lora_A.default")]
    assert len(adapted) == 3 * len(targets)
    assert theirs.peft_config["default"].lora_dropout == 0.1
    want = run(theirs, SEQUENCES)
    for states, hidden in zip(
        encoder.hidden_states(SEQUENCES, adapter="mine"), want["hidden"], strict=True
    ):
        assert_close(states, hidden, 1e-5)
    if kind == "EsmForSequenceClassification":
        assert_close(encoder.predict(SEQUENCES, adapter="mine"), np.stack(want["logits"]), 1e-5)


OPTIONS: dict[str, dict[str, Any]] = {
    "names": {"target_modules": ["query", "key", "value", "attention.output.dense"]},
    "expression": {"target_modules": r".*encoder\.layer\.[12]\..*(query|output\.dense)"},
    "all linear": {"target_modules": "all-linear"},
    "ending that hits two": {"target_modules": ["output.dense"]},
    "some layers": {"target_modules": ["query", "value"], "layers_to_transform": [0, 2]},
    "excluded": {
        "target_modules": ["query", "value"],
        "exclude_modules": ["layer.1.attention.self.query"],
    },
    "rank by module": {
        "target_modules": ["query", "value"],
        "rank_pattern": {"query": 2, r"layer\.2\.attention\.self\.value": 7},
        "alpha_pattern": {"layer.0.attention.self.query": 32},
    },
    "rslora": {"target_modules": ["query"], "use_rslora": True},
    "classifier": {"target_modules": ["value"], "modules_to_save": ["classifier"]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_we_load_what_peft_writes(peft: Any, tmp_path: Path, name: str) -> None:
    torch, _ = need_transformers()
    options = OPTIONS[name]
    kind = "EsmForSequenceClassification" if name == "classifier" else "EsmForMaskedLM"
    model = make(tmp_path / "base", 16, kind)
    encoder = mt.load(tmp_path / "base")
    before = encoder.embed(SEQUENCES)
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=10, **options)).eval()
    with torch.no_grad():
        for parameter_name, parameter in theirs.named_parameters():
            # all-linear adapts the contact head too; there it stays without effect.
            used = "contact_head" not in parameter_name and "lm_head" not in parameter_name
            if (
                "lora_B" in parameter_name and used
            ) or "classifier.modules_to_save" in parameter_name:
                parameter.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    want = run(theirs, SEQUENCES)
    encoder.load_adapter(tmp_path / "adapter", "a")
    for states, hidden in zip(
        encoder.hidden_states(SEQUENCES, adapter="a"), want["hidden"], strict=True
    ):
        assert_close(states, hidden, 1e-5)
    if kind == "EsmForSequenceClassification":
        assert_close(encoder.predict(SEQUENCES, adapter="a"), np.stack(want["logits"]), 1e-5)
    assert not np.allclose(encoder.embed(SEQUENCES, adapter="a"), before)
    assert np.array_equal(encoder.embed(SEQUENCES), before)
    encoder.save_adapter("a", tmp_path / "again")
    again = peft.PeftModel.from_pretrained(make(tmp_path / "base2", 16, kind), tmp_path / "again")
    for got, states in zip(run(again.eval(), SEQUENCES)["hidden"], want["hidden"], strict=True):
        assert_close(got, states, 1e-5)


def test_merged_model_in_transformers(peft: Any, tmp_path: Path) -> None:
    _, transformers = need_transformers()
    encoder = mt.load(TINY)
    encoder.load_adapter(GOLDEN, "a")
    want = encoder.predict(SEQUENCES, adapter="a")
    encoder.merge_adapter("a")
    encoder.save(tmp_path)
    model = transformers.EsmForSequenceClassification.from_pretrained(tmp_path).eval()
    assert_close(np.stack(run(model, SEQUENCES)["logits"]), want, 1e-5)


# ---- refusals -----------------------------------------------------------------------------------


def golden_with(folder: Path, **changes: Any) -> Path:
    shutil.copytree(GOLDEN, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, r"peft_type is 'IA3'; allowed: 'LORA'"),
        ({"peft_type": None}, r"peft_type is None"),
        ({"use_dora": True}, r"use_dora is True; allowed: off"),
        ({"lora_bias": True}, r"lora_bias is True"),
        ({"bias": "all"}, r"bias is 'all'; allowed: 'none'"),
        ({"init_lora_weights": "pissa_niter_4"}, r"init_lora_weights is 'pissa_niter_4'"),
        ({"layer_replication": [[0, 2]]}, r"layer_replication"),
        ({"r": 0}, r"r is 0; allowed: an integer from 1"),
        ({"r": 8}, r"rank 8 asks for \[8, in\]"),
        (
            {"target_modules": ["query", "key"]},
            r"no tensors for encoder.layer.0.attention.self.key",
        ),
        ({"lora_dropout": 2}, r"lora_dropout is 2"),
        (
            {"target_modules": 3},
            r"target_modules is 3; allowed: a list of module names, or one reg",
        ),
        ({"target_modules": "("}, r"target_modules is '\('; allowed: a valid regular expression"),
        ({"rank_pattern": {"query": "many"}}, r"rank_pattern: query is 'many'; allowed: a number"),
        ({"layers_to_transform": "all"}, r"layers_to_transform is 'all'; allowed: a layer number"),
    ],
)
def test_configs_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    encoder = mt.load(TINY)
    with pytest.raises(CheckpointError, match=message):
        encoder.load_adapter(golden_with(tmp_path / "a", **changes), "a")
    assert encoder.adapters == []
    assert encoder.head is None


def change_tensors(folder: Path, change: Any) -> Path:
    golden_with(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


STEM = "base_model.model.esm.encoder.layer.1.attention.self.query."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(STEM + "lora_B.weight"), r"has lora_A alone, needs A and B"),
        (
            lambda t: t.update({STEM + "lora_A.weight": np.ones((4, 32), np.float32)}),
            r"the adapter of attn.q in layer 1 maps 32 to 64; this model's maps 64 to 64",
        ),
        (
            lambda t: t.update({STEM.replace(".1.", ".7.") + "lora_A.weight": np.ones((4, 64))}),
            r"layer.7.attention.self.query.lora_A.weight' has no place here",
        ),
        (
            lambda t: t[STEM + "lora_B.weight"].__setitem__((0, 0), np.nan),
            r"adapter_model.safetensors: tensor .*query.lora_B.weight' has 1 NaN or infinite",
        ),
        (
            lambda t: t.update({STEM + "lora_magnitude_vector": np.ones(64, np.float32)}),
            r"lora_magnitude_vector' has no place here",
        ),
        (
            lambda t: t.update(
                {"base_model.model.classifier.out_proj.bias": np.ones(5, np.float32)}
            ),
            r"classifier of shapes",
        ),
    ],
)
def test_tensors_refused(tmp_path: Path, change: Any, message: str) -> None:
    encoder = mt.load(TINY)
    with pytest.raises(CheckpointError, match=message):
        encoder.load_adapter(change_tensors(tmp_path / "a", change), "a")
    assert encoder.adapters == []
    assert encoder.head is None


def test_files_refused(tmp_path: Path) -> None:
    encoder = mt.load(TINY)
    with pytest.raises(CheckpointError, match=r"no adapter_config.json; this is no PEFT adapter"):
        encoder.load_adapter(TINY)
    folder = golden_with(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"truncated"):
        encoder.load_adapter(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model.bin: not a PyTorch file"):
        encoder.load_adapter(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model.safetensors"):
        encoder.load_adapter(folder)
    with pytest.raises(CheckpointError, match=r"this is an adapter .*load its base"):
        mt.load(GOLDEN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, r"adapter name ''; allowed: text without a dot"),
        ({"name": "a.b"}, r"adapter name 'a.b'"),
        ({"name": "taken"}, r"there is an adapter 'taken' already"),
        ({"targets": ["query"]}, r"target 'query'; allowed: attn.q, attn.k, attn.v"),
        ({"rank": 0}, r"rank is 0; allowed: an integer from 1 to 64"),
        ({"dropout": 1.0}, r"dropout is 1.0"),
    ],
)
def test_adding_refused(options: dict[str, Any], message: str) -> None:
    encoder = mt.load(TINY)
    encoder.add_adapter("taken")
    with pytest.raises(ConfigError, match=message):
        encoder.add_adapter(**{"name": "new", **options})
    assert encoder.adapters == ["taken"]


def test_names_that_are_not_there(tmp_path: Path) -> None:
    encoder = mt.load(TINY)
    for call in (
        lambda: encoder.merge_adapter("x"),
        lambda: encoder.remove_adapter("x"),
        lambda: encoder.save_adapter("x", tmp_path / "x"),
        lambda: encoder.embed(["MK"], adapter="x"),
        lambda: encoder.embed(["MK"], adapter=["x"]),
        lambda: encoder.predict(["MK"], adapter="x"),
    ):
        with pytest.raises(ConfigError, match=r"no adapter 'x'; loaded: none"):
            call()
    encoder.add_adapter("a")
    with pytest.raises(ConfigError, match=r"2 adapter names for 1 sequences"):
        encoder.embed(["MK"], adapter=["a", None])
    assert not (tmp_path / "x").exists()
