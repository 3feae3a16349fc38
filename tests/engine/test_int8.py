"""8-bit inference of whole models: how far from float32, with adapters, and no training."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from comparison import relative_error
from moltide import _engine
from moltide.random_init import esm2_config, random_encoder, randomise

TOKENS = np.r_[0, np.random.default_rng(0).integers(4, 24, 90), 2].astype(np.int32)
CU = np.array([0, 30, 70, len(TOKENS)], np.int32)
SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHM" * 12, "W"]
ALL = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down")


def pair(seed: int = 0, deviation: float = 0.1, **changes: object):
    """The same random weights in int8 and in float32."""
    models = []
    for dtype in ("int8", "float32"):
        model = _engine.Model(esm2_config(3, 64, 4) | changes, dtype)
        randomise(model, seed, deviation)
        models.append(model)
    return models


@pytest.mark.parametrize(
    "changes",
    [{}, {"activation": "swiglu"}, {"activation": "relu"}, {"residual_scale": 0.5}],
    ids=["esm2", "swiglu", "relu", "residual_scale"],
)
def test_close_to_float32(isa, changes):
    int8, exact = pair(**changes)
    hidden = int8.hidden(TOKENS, CU), exact.hidden(TOKENS, CU)
    # Rounding to 8 bits must show, and show no more than it should.
    assert 1e-3 < relative_error(*hidden) < 5e-2
    pooled = int8.pooled(TOKENS, CU), exact.pooled(TOKENS, CU)
    cosine = (pooled[0] * pooled[1]).sum(1) / np.prod(
        [np.linalg.norm(p, axis=1) for p in pooled], 0
    )
    assert cosine.min() > 0.999
    assert 1e-3 < relative_error(int8.logits(TOKENS, CU), exact.logits(TOKENS, CU)) < 5e-2


def test_instruction_sets_differ_by_no_more_than_their_float_parts():
    found = []
    for name in _engine.available_isas():
        _engine.set_isa(name)
        int8, exact = pair()
        assert int8.activations == ("bf16" if name in ("avx512_bf16", "amx") else "float32")
        found.append(relative_error(int8.hidden(TOKENS, CU), exact.hidden(TOKENS, CU)))
    assert max(found) < 1.5 * min(found)


@pytest.mark.parametrize(
    ("activation", "target"),
    [*(("gelu", target) for target in ALL), *(("swiglu", target) for target in (*ALL, "mlp.gate"))],
)
def test_adapters_work_over_8_bit_weights(isa, activation, target):
    models = pair(activation=activation)
    plain = models[0].hidden(TOKENS, CU)
    for model in models:
        model.add_adapter("a", 4, 8.0, 0.0, [target], 1)
        rng = np.random.default_rng(2)
        for name, shape in model.parameters():
            if name.endswith("lora_b"):
                model.set_parameter(name, rng.normal(0, 0.2, shape).astype(np.float32))
    int8, exact = (model.hidden(TOKENS, CU, "a") for model in models)
    assert relative_error(int8, plain) > 0.05
    assert relative_error(int8, exact) < 5e-2
    mixed = models[0].hidden(TOKENS, CU, [None, "a", None])
    np.testing.assert_array_equal(mixed[: CU[1]], plain[: CU[1]])
    np.testing.assert_array_equal(mixed[CU[1] : CU[2]], int8[CU[1] : CU[2]])
    np.testing.assert_array_equal(mixed[CU[2] :], plain[CU[2] :])
    models[0].merge_adapter("a")
    assert relative_error(models[0].hidden(TOKENS, CU), exact) < 5e-2


def test_changed_weights_are_packed_again():
    int8, _ = pair()
    before = int8.hidden(TOKENS, CU)
    int8.set_parameter("layers.1.mlp.up.weight", 2 * int8.get_parameter("layers.1.mlp.up.weight"))
    assert relative_error(int8.hidden(TOKENS, CU), before) > 0.01


def test_packed_weights_and_activations_are_smaller():
    int8, exact = pair()
    lengths = [100] * 50
    assert (
        3 * int8.plan_memory(lengths)["packed_weights"]
        < exact.plan_memory(lengths)["packed_weights"]
    )
    assert int8.plan_memory(lengths)["activations"] < exact.plan_memory(lengths)["activations"]


def test_an_encoder_says_that_it_is_int8_and_keeps_it_in_copies():
    encoder = random_encoder(esm2_config(2, 32, 2), 0, "int8")
    assert encoder.dtype == "int8"
    assert "dtype='int8'" in repr(encoder)
    copied = copy.deepcopy(encoder)
    assert copied.dtype == "int8"
    assert np.array_equal(copied.embed(SEQUENCES), encoder.embed(SEQUENCES))
    with pytest.raises(ValueError, match="allowed float32, bf16, int8"):
        random_encoder(esm2_config(2, 32, 2), 0, "int4")


def test_training_is_refused():
    encoder = random_encoder(esm2_config(2, 32, 2), 0, "int8")
    encoder.set_head({"outputs": 1})
    with pytest.raises(ValueError, match="an int8 model has no backward pass"):
        _engine.Trainer(encoder.model, {"mode": "head", "objective": "mse"})
