"""What holds of ESM-2 holds of every kind of encoder: values, gradients, bits, memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from encoder_kinds import ENCODERS, encoder_model
from tiny_training import HEADS, LENGTHS, RECOMPUTE, config_of, targets_of, tokens_of

from comparison import relative_error
from moltide import _engine
from moltide.pretrained.shapes import parameter_shapes
from reference.encoder import Encoder

ALL = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down")
DROPOUT = {"embed_dropout": 0.2, "hidden_dropout": 0.1, "attention_dropout": 0.1}
kinds = pytest.mark.parametrize("kind", ENCODERS)
ROWS = np.arange(len(LENGTHS))


def values_of(model):
    return {n: model.get_parameter(n).astype(np.float64) for n, _ in model.parameters()}


def packed(parts):
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)]).astype(np.int32)


def sequences(lengths=(40, 1, 58, 7, 2, 50, 33, 20, 11)):
    """Of few kinds of tokens, so that many share what enters the first block; some <mask>."""
    rng = np.random.default_rng(1)
    parts = [np.r_[0, rng.integers(4, 24, n), 2].astype(np.int32) for n in lengths]
    parts[2][[5, 9]] = 32
    return parts


def adapted(model, targets, dropout=0.0, name="a", rank=4, seed=3):
    model.add_adapter(name, rank, 2.0 * rank, dropout, targets, seed)
    rng = np.random.default_rng(seed)
    for parameter, shape in model.parameters():
        if parameter.startswith(f"adapters.{name}.") and parameter.endswith("lora_b"):
            model.set_parameter(parameter, rng.normal(0, 0.2, shape).astype(np.float32))
    return model


def trainer_of(
    kind, dtype="float32", *, mode="full", objective="mse", changes=DROPOUT, lora_dropout=0.1,
    **values,
):  # fmt: skip
    if ENCODERS[kind].get("attention") == "linear":
        changes = {name: p for name, p in changes.items() if name != "attention_dropout"}
    model = encoder_model(kind, dtype, **changes)
    model.set_head(HEADS["mse"], 5)
    gated = model.config["activation"] == "swiglu"
    adapted(model, [*ALL, "mlp.gate"] if gated else ALL, lora_dropout)
    trainer = _engine.Trainer(
        model,
        config_of(
            mode=mode, adapter="a", objective=objective, seed=9,
            mlm_residues=list(range(4, 24)), mlm_probability=0.4, **values,
        ),
    )  # fmt: skip
    targets = None if objective == "mlm" else targets_of(objective, len(LENGTHS))
    trainer.set_dataset(*tokens_of(), targets)
    return model, trainer


@kinds
def test_parameters_are_those_that_the_readers_expect(kind):
    model = encoder_model(kind, "float32")
    found = {name: tuple(shape) for name, shape in model.parameters()}
    assert found == parameter_shapes(model.config)


@kinds
def test_values(kind, isa):
    model, (tokens, cu) = encoder_model(kind, "float32"), packed(sequences())
    exact = Encoder(model.config, values_of(model)).hidden(tokens, cu)
    hidden = model.hidden(tokens, cu, all_layers=True)
    for layer, want in enumerate(exact):
        assert np.abs(hidden[layer] - want).max() <= 2e-5 * np.abs(want).max(), layer
    np.testing.assert_array_equal(hidden[-1], model.hidden(tokens, cu))


@kinds
@pytest.mark.parametrize(("dtype", "allowed"), [("bf16", 3e-2), ("int8", 8e-2)])
def test_values_of_few_bits(kind, dtype, allowed, isa):
    model, (tokens, cu) = encoder_model(kind, dtype), packed(sequences())
    exact = Encoder(model.config, values_of(model)).hidden(tokens, cu)[-1]
    assert 1e-4 < relative_error(model.hidden(tokens, cu), exact) < allowed


@kinds
def test_dropout_falls_where_the_models_have_it(kind):
    """The loss of a training step, every dropout on, against the reference with the same draws."""
    model, trainer = trainer_of(kind, recompute="blocks")
    loss, _ = trainer.gradients(ROWS)
    tokens, offsets = tokens_of()
    encoder = Encoder(model.config, values_of(model), seed=9)
    y = encoder.hidden(tokens, offsets.astype(np.int32))[-1]
    pooled = np.stack([part[1:-1].mean(0) for part in np.split(y, offsets[1:-1])])
    error = (encoder.linear(pooled, "head.out") - targets_of("mse", len(LENGTHS))) ** 2
    assert loss == pytest.approx(np.nanmean(error), rel=1e-5)


@kinds
def test_every_gradient_is_the_slope_of_the_loss(kind):
    """Along a random direction, one parameter after the other; every dropout is on."""
    model, trainer = trainer_of(kind)
    _, gradients = trainer.gradients(ROWS)
    # A step of relu's finite difference must stay clear of its kinks; so with random features.
    kinks = model.config["activation"] == "relu" or model.config["attention"] == "linear"
    step, slack = (1e-4, 4e-3) if kinks else (1e-3, 4e-4)
    seen = 0
    for name, gradient in gradients.items():
        direction = np.random.default_rng(17).normal(0, 1, gradient.shape)
        start = model.get_parameter(name).astype(np.float64)
        losses = []
        for steps in (1, -1, 2, -2):
            model.set_parameter(name, (start + steps * step * direction).astype(np.float32))
            losses.append(trainer.gradients(ROWS)[0])
        model.set_parameter(name, start.astype(np.float32))
        slope = (8 * (losses[0] - losses[1]) - (losses[2] - losses[3])) / (12 * step)
        expected = float((gradient.astype(np.float64) * direction).sum())
        assert slope == pytest.approx(expected, rel=3e-2, abs=slack), name
        seen += abs(expected) > 4e-3
    assert seen > 0.7 * len(gradients)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_batched_equals_alone_in_any_order_and_thread_count(kind, dtype, isa):
    model, parts = encoder_model(kind, dtype), sequences()
    adapted(model, ["attn.q", "mlp.up"])
    adapted(model, ["attn.v", "mlp.down"], name="b", rank=8)
    adapters = [None, "a", "b", "a", None, "b", "a", None, "a"]
    alone = [model.hidden(*packed([p])) for p in parts]
    with_adapters = [model.hidden(*packed([p]), a) for p, a in zip(parts, adapters, strict=True)]
    logits = [model.logits(*packed([p])) for p in parts]
    for threads, seed in ((1, 0), (2, 1), (3, 2)):
        _engine.set_num_threads(threads)
        order = np.random.default_rng(seed).permutation(len(parts))
        tokens, cu = packed([parts[i] for i in order])
        together = [
            (model.hidden(tokens, cu), alone),
            (model.hidden(tokens, cu, [adapters[i] for i in order]), with_adapters),
            (model.logits(tokens, cu), logits),
        ]
        for got, want in together:
            for place, i in enumerate(order):
                np.testing.assert_array_equal(got[cu[place] : cu[place + 1]], want[i])


@kinds
@pytest.mark.parametrize("target", [*ALL, "mlp.gate"])
def test_adapters_work_over_8_bit_weights(kind, target):
    if target == "mlp.gate" and ENCODERS[kind].get("activation") != "swiglu":
        pytest.skip("no gate")
    tokens, cu = packed(sequences())
    int8, exact = (adapted(encoder_model(kind, d), [target]) for d in ("int8", "float32"))
    plain = int8.hidden(tokens, cu)
    found = int8.hidden(tokens, cu, "a")
    assert relative_error(found, exact.hidden(tokens, cu, "a")) < 8e-2
    assert relative_error(found, plain) > 0.01
    mixed = int8.hidden(tokens, cu, [None, "a"] * 4 + [None])
    for row, (begin, end) in enumerate(pairwise(cu)):
        want = found if row % 2 else plain
        np.testing.assert_array_equal(mixed[begin:end], want[begin:end])


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("objective", ["mse", "mlm"])
def test_recomputation_and_threads_change_no_bit(kind, dtype, mode, objective):
    results = []
    for recompute in RECOMPUTE:
        for threads in (1, 3):
            _engine.set_num_threads(threads)
            _, trainer = trainer_of(
                kind, dtype, mode=mode, objective=objective, recompute=recompute
            )
            results.append(trainer.gradients(ROWS))
    for loss, gradients in results[1:]:
        assert loss == results[0][0]
        for name, values in results[0][1].items():
            np.testing.assert_array_equal(values, gradients[name], err_msg=name)


@kinds
@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_steps_of_changing_size_are_those_of_fresh_trainers(kind, mode, recompute):
    """One micro-batch, whose gradients take the place of activations, and several, in turn."""

    def fresh(state=None):
        model, trainer = trainer_of(
            kind, "bf16", mode=mode, objective="mlm", recompute=recompute, max_tokens=45
        )
        if state is not None:
            trainer.load_state(state)
        return model, trainer

    _, used = fresh()
    state = used.state()
    for rows in ([1], [0, 1, 2, 3], [4, 2, 0], [0, 1, 2, 3, 4]):
        model, trainer = fresh(state)
        assert trainer.step(np.array(rows)) == used.step(np.array(rows))
        state = trainer.state()
        for name, values in used.state().items():
            np.testing.assert_array_equal(values, state[name], err_msg=f"{name} after {rows}")
        del trainer, model


@kinds
@pytest.mark.parametrize("mode", ["full", "lora", "head"])
def test_micro_batches_accumulate_the_gradient_of_the_whole(kind, mode):
    """The whole in one micro-batch, its gradients over activations, against many that add up."""
    results = []
    for max_tokens in (10_000, 20):
        _, trainer = trainer_of(
            kind, mode=mode, max_tokens=max_tokens, changes={}, lora_dropout=0.0
        )
        results.append(trainer.gradients(ROWS))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for name, values in results[0][1].items():
        beside = name.replace("attn.k.bias", "attn.q.bias")  # without rotation it is zero
        scale = np.abs(results[0][1][beside]).max() + 1e-6
        np.testing.assert_allclose(results[1][1][name], values, atol=5e-5 * scale, err_msg=name)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_a_layer_keeps_no_more_than_in_esm2(kind, dtype):
    """Queries, keys, values and attention's output, what goes into the activation, two sums of the
    residual stream; and statistics: of two norms, with QK-norm of four."""
    width, heads, ffn, tokens = 32, 4, 64, 2048
    swiglu, qk = (ENCODERS[kind].get(n) for n in ("activation", "qk_norm"))
    inner = (2 if swiglu == "swiglu" else 1) * ffn
    for recompute in ("none", "mlp"):
        plans = []
        for layers in (3, 4):
            model = encoder_model(kind, dtype, layers=layers, width=width, heads=heads, ffn=ffn)
            model.set_head(HEADS["mse"], 5)
            trainer = _engine.Trainer(model, config_of(objective="mse", recompute=recompute))
            plans.append(trainer.plan_memory([256] * 8, micro_batches=2)["activations"])
        size = 4 if dtype == "float32" else 2
        kept = size * (4 * width + (inner if recompute == "none" else 0))
        sums = 0 if ENCODERS[kind].get("attention") == "linear" else heads  # of exponentials
        kept += 4 * (2 * width + sums + (8 if qk else 4))
        assert plans[1] - plans[0] == tokens * kept


@kinds
def test_merged_adapter_computes_what_base_and_adapter_did(kind):
    model, (tokens, cu) = adapted(encoder_model(kind, "float32"), ALL), packed(sequences())
    before, plain = model.hidden(tokens, cu, "a"), model.hidden(tokens, cu)
    model.merge_adapter("a")
    after = model.hidden(tokens, cu)
    assert relative_error(after, before) < 1e-5
    assert relative_error(after, plain) > 1e-2


@kinds
def test_a_run_learns_and_resumes(kind):
    states = []
    for interrupt in (None, 3):
        _, trainer = trainer_of(kind, lr=3e-3)
        losses = []
        for step in range(6):
            if step == interrupt:
                state = trainer.state()
                del trainer
                _, trainer = trainer_of(kind, lr=3e-3)
                trainer.load_state(state)
            losses.append(trainer.step(ROWS)["loss"])
        assert losses[-1] < losses[0]
        states.append(trainer.state())
        del trainer
    for name, values in states[0].items():
        np.testing.assert_array_equal(values, states[1][name], err_msg=name)


@kinds
def test_shortest_sequences(kind):
    model = encoder_model(kind, "float32")
    only = np.array([0, 2], dtype=np.int32)
    assert np.isfinite(model.hidden(only, np.array([0, 2], np.int32))).all()
    none = np.empty(0, np.int32), np.zeros(1, np.int32)
    assert model.logits(*none).shape == (0, 33)


BAD = [
    ({"norm_place": "post", "attn_residual_normed": True}, "goes with norm_place = pre, got post"),
    ({"swiglu_beta": True}, "swiglu_beta = true goes with activation = swiglu"),
    ({"embed_dropout": 1.0}, r"embed_dropout = 1, allowed \[0, 1\)"),
    ({"norm": "rmsnorm"}, "norm = rmsnorm, this engine has layernorm"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        encoder_model("rna_fm", "float32", **changes)
