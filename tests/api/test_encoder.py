"""The Encoder: golden values of Transformers, independence of batches, inputs, errors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from published import tiny_tensors, write_tiny
from safetensors.numpy import load_file

import moltide as mt
from comparison import assert_close
from moltide import _engine
from moltide.encoder import Encoder
from moltide.errors import ConfigError, DataError

DATA = Path(__file__).parent.parent / "data"
TINY = DATA / "esm2_tiny_random"
SEQUENCES = [
    "MKTVRQERLKSIVRILERSKEPVSGAQLAEELSVSRQVIVQDIAYLRSLGYNIVATPRGYVLAGG",
    "A",
    "ACDEFGHIKLMNPQRSTVWYXBUZO.-",
    "MK<mask>VRQ<mask>RLKSI",
    "GG",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return mt.load(TINY)


def golden_batches() -> list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """(tokens end to end, cu_seqlens, per-batch outputs with padding taken out)."""
    stored = load_file(TINY / "golden.safetensors") | load_file(TINY / "contacts.safetensors")
    batches = []
    for batch in ("b0", "b1", "b2"):
        mask = stored[f"{batch}.attention_mask"].astype(bool)
        cu_seqlens = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int32)
        outputs = {"logits": stored[f"{batch}.logits"][mask]}
        hidden = [stored[f"{batch}.hidden_{layer}"][mask] for layer in range(4)]
        outputs["hidden"] = np.stack(hidden)
        if f"{batch}.contacts" in stored:
            outputs["contacts"] = stored[f"{batch}.contacts"]
        tokens = stored[f"{batch}.input_ids"][mask].astype(np.int32)
        batches.append((tokens, cu_seqlens, outputs))
    return batches


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_golden_hidden_states_and_logits(encoder: Encoder, isa: str, batch: int) -> None:
    tokens, cu_seqlens, want = golden_batches()[batch]
    hidden = encoder.model.hidden(tokens, cu_seqlens, None, True)
    for layer in range(4):
        assert_close(hidden[layer], want["hidden"][layer], 1e-4)
    assert_close(encoder.model.logits(tokens, cu_seqlens, None), want["logits"], 1e-4)


@pytest.mark.parametrize("batch", [0, 1])
def test_golden_contacts(encoder: Encoder, isa: str, batch: int) -> None:
    tokens, cu_seqlens, want = golden_batches()[batch]
    for got, theirs in zip(
        encoder.model.contacts(tokens, cu_seqlens), want["contacts"], strict=True
    ):
        length = len(got)
        assert_close(got, theirs[:length, :length], 1e-4)


def test_embed_is_what_hidden_states_say(encoder: Encoder) -> None:
    hidden = [states[-1] for states in encoder.hidden_states(SEQUENCES)]
    residues = encoder.embed(SEQUENCES, pool=None)
    for states, rows in zip(hidden, residues, strict=True):
        assert np.array_equal(states[1:-1], rows)
    mean = encoder.embed(SEQUENCES)
    assert mean.shape == (5, 64)
    assert mean.dtype == np.float32
    assert_close(mean, np.stack([rows.astype(np.float64).mean(0) for rows in residues]), 1e-6)
    assert np.array_equal(
        encoder.embed(SEQUENCES, pool="cls"), np.stack([states[0] for states in hidden])
    )


def all_results(encoder: Encoder, sequences: list[str], **options: int) -> list[list[np.ndarray]]:
    return [
        list(encoder.embed(sequences, **options)),
        encoder.embed(sequences, pool=None, **options),
        list(encoder.embed(sequences, pool="cls", **options)),
        encoder.logits(sequences, **options),
        encoder.hidden_states(sequences, **options),
        encoder.contacts(sequences, **options),
    ]


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_batched_is_alone_bit_for_bit(dtype: str) -> None:
    """Whatever the company, the order, the size of a pass and the number of threads."""
    encoder = mt.load(TINY, dtype=dtype)
    alone = [all_results(encoder, [text]) for text in SEQUENCES]
    for threads, batch_tokens, order in (
        (1, 8192, [0, 1, 2, 3, 4]),
        (2, 8192, [4, 2, 0, 3, 1]),
        (2, 1, [1, 0, 2, 4, 3]),
        (3, 40, [3, 0, 4, 1, 2]),
    ):
        _engine.set_num_threads(threads)
        together = all_results(encoder, [SEQUENCES[i] for i in order], batch_tokens=batch_tokens)
        for kind, results in enumerate(together):
            for place, i in enumerate(order):
                assert np.array_equal(results[place], alone[i][kind][0])


def test_nothing_in_nothing_out(encoder: Encoder) -> None:
    assert encoder.embed([]).shape == (0, 64)
    assert encoder.embed([], pool=None) == []
    assert encoder.logits([]) == []
    assert encoder.contacts(iter([])) == []


def test_columns_and_generators(encoder: Encoder) -> None:
    want = encoder.embed(SEQUENCES)
    assert np.array_equal(encoder.embed(text for text in SEQUENCES), want)
    assert np.array_equal(encoder.embed(tuple(SEQUENCES)), want)
    assert np.array_equal(encoder.embed(np.array(SEQUENCES)), want)
    assert np.array_equal(encoder.embed(np.array(SEQUENCES, dtype=object)), want)
    pandas = pytest.importorskip("pandas")
    assert np.array_equal(encoder.embed(pandas.Series(SEQUENCES, index=range(5, 10))), want)
    with pytest.raises(DataError, match=r"a table with columns \['sequence'\]"):
        encoder.embed(pandas.DataFrame({"sequence": SEQUENCES}))


def test_polars_and_arrow_columns(encoder: Encoder) -> None:
    want = encoder.embed(SEQUENCES)
    pyarrow = pytest.importorskip("pyarrow")
    assert np.array_equal(encoder.embed(pyarrow.array(SEQUENCES)), want)
    chunked = pyarrow.chunked_array([SEQUENCES[:2], SEQUENCES[2:]])
    assert np.array_equal(encoder.embed(chunked), want)

    class Column:
        """Nothing but Arrow's stream."""

        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return chunked.__arrow_c_stream__(requested_schema)

    assert np.array_equal(encoder.embed(Column()), want)
    polars = pytest.importorskip("polars")
    assert np.array_equal(encoder.embed(polars.Series(SEQUENCES)), want)


def test_streaming_takes_no_more_than_it_needs(encoder: Encoder) -> None:
    taken = []

    def stream():
        for number in range(1000):
            taken.append(number)
            yield "MKTV"

    results = encoder.embed_iter(stream(), batch_tokens=60)
    first = next(results)
    assert len(taken) < 30
    assert np.array_equal(first, encoder.embed(["MKTV"])[0])


def test_progress(encoder: Encoder) -> None:
    calls: list[tuple[int, int | None]] = []
    encoder.embed(SEQUENCES, batch_tokens=30, progress=lambda n, total: calls.append((n, total)))
    assert calls[-1] == (5, 5)
    assert [n for n, _ in calls] == sorted(n for n, _ in calls)


def test_published_ids_on_request(encoder: Encoder) -> None:
    """Default: one warning; "unknown": in silence; no residue at all: an error with the place."""
    quiet = encoder.embed(["mkTV", "M K"], on_illegal="unknown")
    with pytest.warns(UserWarning, match="1 of 2 sequences"):
        assert np.array_equal(encoder.embed(["mkTV", "M K"]), quiet)
    with pytest.raises(DataError, match="sequence 7, position 3: '4' is no residue"):
        encoder.embed(["MK"] * 7 + ["MK4"], batch_tokens=9)
    for option in ("error", "unknown"):
        with pytest.raises(DataError, match="sequence 2 is empty"):
            encoder.embed(["MK", "A", ""], on_illegal=option)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "max"}, "pool is 'max'; allowed: 'mean', 'cls', None"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"adapter": "a"}, "no adapter 'a'; loaded: none"),
    ],
)
def test_options_refused(encoder: Encoder, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder.embed(["MK"], **options)


def test_one_string_is_refused(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="put it in a list"):
        encoder.embed("MKTV")


def test_parts_a_checkpoint_lacks(tmp_path: Path) -> None:
    tensors = {
        name.removeprefix("esm."): values
        for name, values in tiny_tensors().items()
        if "lm_head" not in name and "contact" not in name
    }
    bare = mt.load(write_tiny(tmp_path, tensors, architectures=["EsmModel"]))
    with pytest.raises(ConfigError, match="has no masked-LM head"):
        bare.logits(["MK"])
    with pytest.raises(ConfigError, match="has no contact head"):
        bare.contacts(["MK"])
    with pytest.raises(ConfigError, match="has no head"):
        bare.predict(["MK"])
    with pytest.raises(ConfigError, match="has no masked-LM head"):
        bare.score_variants("MK", ["M1A"])


def test_learned_positions_run_out(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["esm.embeddings.position_embeddings.weight"] = np.ones((40, 32), np.float32)
    encoder = mt.load(write_tiny(tmp_path, tensors, position_embedding_type="absolute"))
    assert encoder.embed(["A" * 36]).shape == (1, 32)
    with pytest.raises(DataError, match=r"sequence 1 has 37 residues; .* positions for 36"):
        encoder.embed(["AA", "A" * 37])


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_no_cuda_here(device: str) -> None:
    with pytest.raises(ConfigError, match=r"no CUDA backend; use device='cpu'"):
        mt.load(TINY, device=device)


def test_other_options_of_load() -> None:
    with pytest.raises(ConfigError, match="device is 'tpu'; allowed: 'auto', 'cpu'"):
        mt.load(TINY, device="tpu")
    with pytest.raises(ConfigError, match="dtype is 'float16'; allowed"):
        mt.load(TINY, dtype="float16")
    assert mt.load(TINY, device="cpu", dtype="bf16").dtype == "bf16"
    assert mt.load(TINY).dtype == "float32"


def test_engine_parameters_are_those_expected() -> None:
    """The shapes that checkpoints are checked against are the engine's own."""
    from moltide.pretrained.shapes import parameter_shapes

    encoder = mt.load(TINY)
    encoder.set_head({"pool": "cls", "hidden": 64, "outputs": 3, "dropout": 0.0})
    shapes = {name: tuple(shape) for name, shape in encoder.model.parameters()}
    assert shapes == parameter_shapes(encoder.config, encoder.head)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_pickling(dtype: str) -> None:
    encoder = mt.load(TINY, dtype=dtype)
    encoder.set_head({"pool": "mean", "hidden": 0, "outputs": 2, "dropout": 0.1}, 3)
    encoder.add_adapter("a", rank=2, alpha=6, seed=1)
    name = "adapters.a.layers.0.attn.q.lora_b"
    encoder.model.set_parameter(name, np.full((64, 2), 0.1, np.float32))
    again = pickle.loads(pickle.dumps(encoder))
    assert again.config == encoder.config
    assert again.dtype == dtype
    assert again.adapters == ["a"]
    for adapter in (None, "a"):
        assert np.array_equal(
            again.predict(SEQUENCES, adapter=adapter), encoder.predict(SEQUENCES, adapter=adapter)
        )


def test_golden_slices_of_the_published_8m() -> None:
    """Needs the published weights in huggingface_hub's cache; skipped where they are not."""
    try:
        encoder = mt.load("facebook/esm2_t6_8M_UR50D", local_files_only=True)
    except mt.CheckpointError as error:
        pytest.skip(f"published weights are not in the cache: {error}")
    want = json.loads((DATA / "esm2_configs" / "golden_8m.json").read_text())
    for part, compute, key in (
        ("masked_lm", encoder.model.logits, "logits_0_3_0_3"),
        ("no_head", encoder.model.hidden, "last_hidden_0_3_0_3"),
    ):
        tokens = np.array(want[part]["input_ids"][0], dtype=np.int32)
        values = compute(tokens, np.array([0, len(tokens)], dtype=np.int32))
        assert np.allclose(values[:3, :3], want[part][key], rtol=1e-4, atol=1e-4)
