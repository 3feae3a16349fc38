"""Inference: a sequence's result has the same bits alone, in any batch, order and thread count."""

from __future__ import annotations

import numpy as np
import pytest

from moltide import _engine
from moltide.random_init import esm2_config, randomise

LENGTHS = (40, 1, 333, 7, 64, 2, 150)


def make(dtype, head_dim=16):
    model = _engine.Model(esm2_config(2, 4 * head_dim, 4), dtype)
    randomise(model, 0)
    model.set_head({"pool": "mean", "outputs": 2}, 1)
    model.add_adapter("a", 4, 8.0, 0.0, ["attn.q", "mlp.up"], 2)
    model.add_adapter("b", 8, 8.0, 0.0, ["attn.v", "mlp.down"], 3)
    rng = np.random.default_rng(0)
    for name, shape in model.parameters():
        if name.endswith("lora_b"):
            model.set_parameter(name, rng.normal(0, 0.3, shape).astype(np.float32))
    return model


def sequences():
    rng = np.random.default_rng(1)
    return [np.r_[0, rng.integers(4, 33, n), 2].astype(np.int32) for n in LENGTHS]


def packed(parts):
    cu = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return np.concatenate(parts) if parts else np.empty(0, np.int32), cu


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("head_dim", [16, 24, 32, 64, 128])
def test_batched_equals_alone_in_any_order_and_thread_count(isa, dtype, head_dim):
    model, parts = make(dtype, head_dim), sequences()
    adapters = [None, "a", "b", "a", None, "b", "a"]
    alone = [model.hidden(*packed([p]), a) for p, a in zip(parts, adapters, strict=True)]
    logits = [model.logits(*packed([p])) for p in parts]
    predictions = [model.predict(*packed([p]), a) for p, a in zip(parts, adapters, strict=True)]
    for threads, seed in ((1, 0), (2, 1), (3, 2)):
        _engine.set_num_threads(threads)
        order = np.random.default_rng(seed).permutation(len(parts))
        tokens, cu = packed([parts[i] for i in order])
        named = [adapters[i] for i in order]
        hidden = model.hidden(tokens, cu, named)
        together = model.logits(tokens, cu)
        predicted = model.predict(tokens, cu, named)
        for place, i in enumerate(order):
            span = slice(cu[place], cu[place + 1])
            np.testing.assert_array_equal(hidden[span], alone[i])
            np.testing.assert_array_equal(together[span], logits[i])
            np.testing.assert_array_equal(predicted[place], predictions[i][0])


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_rows_of_one_kind_projected_together_have_the_bits_of_their_own(isa, dtype, activation):
    """Without adapters and masks many tokens share what enters the first block; a few alone, masked
    residues and learned positions do not."""
    for changes in ({}, {"token_dropout": False}, {"position": "learned"}, {"position": "none"}):
        config = {**esm2_config(2, 64, 4), "activation": activation, **changes}
        model = _engine.Model(config, dtype)
        randomise(model, 0)
        rng = np.random.default_rng(2)
        short = [np.r_[0, rng.permutation(np.arange(4, 24))[:n], 2] for n in (3, 9, 20)]
        long = [np.r_[0, rng.integers(4, 24, n), 2] for n in (200, 90, 121)]
        masked = [np.where(rng.random(80) < 0.2, 32, rng.integers(4, 24, 80))]
        all_parts = [p.astype(np.int32) for p in short + long + masked]
        alone = [model.hidden(*packed([p])) for p in all_parts]
        for threads in (1, 3):
            _engine.set_num_threads(threads)
            for count in (len(all_parts) - 1, len(all_parts)):
                tokens, cu = packed(all_parts[:count])
                hidden = np.split(model.hidden(tokens, cu), cu[1:-1])
                for part, single in zip(hidden, alone[:count], strict=True):
                    np.testing.assert_array_equal(part, single)


def test_empty_batch_and_shortest_sequence():
    model = make("float32")
    tokens, cu = packed([])
    assert model.hidden(tokens, cu).shape == (0, 64)
    assert model.pooled(tokens, cu).shape == (0, 64)
    assert model.logits(tokens, cu).shape == (0, 33)
    assert model.contacts(tokens, cu) == []
    only = np.array([0, 2], dtype=np.int32)
    assert np.isfinite(model.hidden(only, np.array([0, 2], np.int32))).all()
    assert (model.pooled(only, np.array([0, 2], np.int32)) == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("hidden", [0, 24])
@pytest.mark.parametrize("pool", ["mean", "cls", "none"])
def test_one_pass_gives_the_prediction_and_what_the_head_reads(isa, dtype, hidden, pool):
    model, parts = make(dtype), sequences()
    model.set_head({"pool": pool, "outputs": 3, "hidden": hidden, "dropout": 0.5}, 1)
    tokens, cu = packed(parts)
    for adapter in (None, "a", [None, "a", "b", "a", None, "b", "a"]):
        predicted, read = model.predict_with_input(tokens, cu, adapter)
        assert predicted.dtype == read.dtype == np.float32
        np.testing.assert_array_equal(predicted, model.predict(tokens, cu, adapter))
        if pool == "none":
            np.testing.assert_array_equal(read, model.hidden(tokens, cu, adapter))
        else:
            np.testing.assert_array_equal(read, model.pooled(tokens, cu, pool, adapter))
    rows = [a.shape for a in model.predict_with_input(*packed([]))]
    assert rows == [(0, 3), (0, 64)]


def test_long_sequences():
    model = make("float32", 16)
    rng = np.random.default_rng(5)
    for length in (2_000, 30_000):
        tokens = np.r_[0, rng.integers(4, 24, length), 2].astype(np.int32)
        out = model.hidden(tokens, np.array([0, length + 2], np.int32))
        assert out.shape == (length + 2, 64)
        assert np.isfinite(out).all()


def test_merged_adapter_computes_what_base_and_adapter_did():
    model, (tokens, cu) = make("float32"), packed(sequences())
    before = model.hidden(tokens, cu, "a")
    plain = model.hidden(tokens, cu)
    model.merge_adapter("a")
    after = model.hidden(tokens, cu)
    np.testing.assert_allclose(after, before, atol=2e-5)
    assert np.abs(after - plain).max() > 1e-3
    assert model.adapters() == ["b"]


def test_all_layers_end_with_the_final_norm():
    model, (tokens, cu) = make("float32"), packed(sequences())
    layers = model.hidden(tokens, cu, all_layers=True)
    assert layers.shape == (3, len(tokens), 64)
    np.testing.assert_array_equal(layers[-1], model.hidden(tokens, cu))
    table = model.get_parameter("embed.tokens.weight")
    plain = tokens < 24
    np.testing.assert_allclose(
        layers[0][plain] / table[tokens[plain]],
        (layers[0] / table[tokens])[plain][:, :1] + 0 * layers[0][plain],
        rtol=1e-3,
    )


BAD_BATCHES = [
    ([1, 40], [0, 2], "token 40 at packed position 1, allowed 0 .. 32"),
    ([1, 2], [0, 3], "cu_seqlens ends at 3, but there are 2 tokens"),
    ([1, 2], [1, 2], "cu_seqlens[0] = 1, must be 0"),
    ([1, 2], [0, 2, 1, 2], "it must ascend to 2"),
    ([1, 2], [], "cu_seqlens is empty"),
]


@pytest.mark.parametrize(("tokens", "cu", "message"), BAD_BATCHES)
def test_bad_batches_are_refused(tokens, cu, message):
    import re

    with pytest.raises(ValueError, match=re.escape(message)):
        make("float32").hidden(np.array(tokens, np.int32), np.array(cu, np.int32))


BAD_CONFIGS = [
    ({"head_dim": 6}, "head_dim = 6, allowed multiples of 4"),
    ({"layers": 0}, "layers = 0, allowed 1"),
    ({"position": "spiral"}, "position = 'spiral', allowed rotary, learned, none"),
    ({"norm": "rmsnorm"}, "norm = rmsnorm"),
    ({"depth": 3}, "there is no field 'depth'"),
]


@pytest.mark.parametrize(("values", "message"), BAD_CONFIGS)
def test_bad_configs_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        _engine.Model({**esm2_config(2, 64, 4), **values}, "float32")
