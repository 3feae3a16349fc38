"""The training step as a whole: gradients by directional derivative, modes, exactness, errors."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_training import (
    COLUMNS,
    HEADS,
    LENGTHS,
    RECOMPUTE,
    config_of,
    make_model,
    targets_of,
    tokens_of,
)

from moltide import _engine

RNG = np.random.default_rng(11)


def directional(model, trainer, rows, names, step):
    """Slope of the loss along a random direction (fourth-order difference), and as predicted."""
    rng = np.random.default_rng(17)
    loss, gradients = trainer.gradients(rows)
    assert np.isfinite(loss)
    start = {n: model.get_parameter(n).astype(np.float64) for n in names}
    direction = {n: rng.normal(0, 1, start[n].shape) for n in names}
    expected = sum(float((gradients[n].astype(np.float64) * direction[n]).sum()) for n in names)
    losses = []
    for steps in (1, -1, 2, -2):
        for n in names:
            model.set_parameter(n, (start[n] + steps * step * direction[n]).astype(np.float32))
        losses.append(trainer.gradients(rows)[0])
    for n in names:
        model.set_parameter(n, start[n].astype(np.float32))
    near, far = losses[0] - losses[1], losses[2] - losses[3]
    return (8 * near - far) / (12 * step), expected


@pytest.mark.parametrize("mode", ["full", "lora", "head"])
@pytest.mark.parametrize("objective", sorted(HEADS))
def test_gradients_are_the_slope_of_the_loss(objective, mode):
    model = make_model(head=HEADS[objective])
    if mode == "lora":
        targets = ["attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down"]
        model.add_adapter("a", 4, 8.0, 0.0, targets, 3)
        for name, shape in model.parameters():
            if name.endswith("lora_b"):
                model.set_parameter(name, RNG.normal(0, 0.2, shape).astype(np.float32))
    own = {"column_losses": list(COLUMNS)} if objective == "mixed" else {}
    trainer = _engine.Trainer(
        model,
        config_of(mode=mode, adapter="a" if mode == "lora" else "", objective=objective, **own),
    )
    tokens, offsets = tokens_of()
    censor = weights = None
    if objective == "tobit":
        censor = np.zeros((len(LENGTHS), 2), dtype=np.int8)
        censor[0, 0], censor[2, 1] = 1, -1
    if objective == "mixed":
        censor = np.zeros((len(LENGTHS), 3), dtype=np.int8)
        censor[0, 0] = 1
        weights = RNG.uniform(0.2, 3, (len(LENGTHS), 3)).astype(np.float32)
    trainer.set_dataset(tokens, offsets, targets_of(objective, len(LENGTHS)), censor, weights)
    rows = np.arange(len(LENGTHS))
    names = trainer.trained_parameters()
    groups = {n.split(".")[0] if mode != "full" else n for n in names}
    for group in sorted(groups):
        chosen = [n for n in names if n.startswith(group)]
        slope, expected = directional(model, trainer, rows, chosen, 1e-3)
        assert slope == pytest.approx(expected, rel=2e-2, abs=2e-4), group


@pytest.mark.parametrize("max_tokens", [2048, 16])
def test_weights_of_single_targets_are_those_of_the_mean(max_tokens):
    """The loss is the weighted mean of the columns' own, whatever the micro-batches."""
    tokens, offsets = tokens_of()
    rows, weights = np.arange(len(LENGTHS)), RNG.uniform(0.2, 3, (len(LENGTHS), 3))
    targets = targets_of("mixed", len(LENGTHS))

    def loss(columns, weights):
        model = make_model(head=HEADS["mixed"])
        losses = list(COLUMNS)
        config = config_of(objective="mixed", column_losses=losses, max_tokens=max_tokens)
        trainer = _engine.Trainer(model, config)
        shown = np.full_like(targets, np.nan)
        shown[:, columns] = targets[:, columns]
        trainer.set_dataset(tokens, offsets, shown, None, weights.astype(np.float32))
        known = ~np.isnan(shown)
        total = np.broadcast_to(weights.reshape(len(weights), -1), shown.shape)[known].sum()
        return trainer.gradients(rows)[0] * total, total

    parts = [loss([c], weights) for c in range(3)]
    whole, total = loss([0, 1, 2], weights)
    assert whole == pytest.approx(sum(part for part, _ in parts), rel=1e-5)
    assert total == pytest.approx(sum(weight for _, weight in parts))
    # A weight a row stands for all of its targets.
    of_rows = np.repeat(weights[:, :1], 3, axis=1)
    assert loss([0, 1, 2], weights[:, 0]) == pytest.approx(loss([0, 1, 2], of_rows), rel=1e-6)


def test_the_objective_mixed_needs_a_loss_a_column():
    model = make_model(head=HEADS["mixed"])
    tokens, offsets = tokens_of()
    for losses in ([], ["mse"]):
        with pytest.raises(ValueError, match=f"mixed with {len(losses)} column_losses, allowed 3"):
            _engine.Trainer(model, config_of(objective="mixed", column_losses=losses))
    with pytest.raises(ValueError, match="allowed mse, huber, bce, tobit"):
        _engine.Trainer(model, config_of(objective="mixed", column_losses=["mse", "mlm", "bce"]))
    weights = np.ones((len(LENGTHS), 3), np.float32)
    trainer = _engine.Trainer(model, config_of(objective="mse"))
    with pytest.raises(ValueError, match="weights of single targets need the objective mixed"):
        trainer.set_dataset(tokens, offsets, targets_of("mixed", len(LENGTHS)), None, weights)
    trainer = _engine.Trainer(
        make_model(head=HEADS["mixed"]), config_of(objective="mixed", column_losses=list(COLUMNS))
    )
    with pytest.raises(ValueError, match=r"weights have 2 columns, allowed 1 or .* 3"):
        trainer.set_dataset(
            tokens, offsets, targets_of("mixed", len(LENGTHS)), None, weights[:, :2].copy()
        )


def test_masked_lm_gradients_are_the_slope_of_the_loss(isa):
    for tied in (True, False):
        model = make_model(tie_lm_head=tied, embed_norm=not tied)
        trainer = _engine.Trainer(
            model,
            config_of(objective="mlm", mlm_residues=list(range(4, 24)), mlm_probability=0.4),
        )
        tokens, offsets = tokens_of()
        trainer.set_dataset(tokens, offsets)
        for name in trainer.trained_parameters():
            slope, expected = directional(model, trainer, np.arange(len(LENGTHS)), [name], 1e-3)
            assert slope == pytest.approx(expected, rel=2e-2, abs=3e-4), name


def joint_trainer(model, **values):
    """Masked residues and two properties of the whole sequence, learned together."""
    trainer = _engine.Trainer(
        model,
        config_of(
            objective="mlm", head_weight=0.7, mlm_residues=list(range(4, 24)),
            mlm_probability=0.4, **values,
        ),
    )  # fmt: skip
    trainer.set_dataset(*tokens_of(), targets_of("mse", len(LENGTHS)))
    return trainer


def test_masked_lm_and_a_head_together_have_right_gradients(isa):
    model = make_model(head=HEADS["mse"], embed_norm=True)
    trainer = joint_trainer(model)
    assert {"lm_head.bias", "head.out.weight"} <= set(trainer.trained_parameters())
    for name in trainer.trained_parameters():
        slope, expected = directional(model, trainer, np.arange(len(LENGTHS)), [name], 1e-3)
        assert slope == pytest.approx(expected, rel=2e-2, abs=3e-4), name


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_both_losses_add_up_whatever_the_micro_batches(isa, dtype):
    rows = np.arange(len(LENGTHS))
    found = []
    for max_tokens in (8192, 16):
        model = make_model(dtype, HEADS["mse"])
        found.append(joint_trainer(model, max_tokens=max_tokens).gradients(rows))
    # Which residues are hidden depends on the micro-batch; the head alone does not see it.
    assert all(np.isfinite(loss) for loss, _ in found)
    model = make_model(dtype, HEADS["mse"])
    mlm = _engine.Trainer(
        model, config_of(objective="mlm", mlm_residues=list(range(4, 24)), mlm_probability=0.4)
    )
    mlm.set_dataset(*tokens_of())
    assert found[0][0] > mlm.gradients(rows)[0]
    for name in ("lm_head.bias", "lm_head.dense.weight"):
        np.testing.assert_array_equal(found[0][1][name], mlm.gradients(rows)[1][name])


@pytest.mark.parametrize("activation", ["gelu", "swiglu", "relu"])
def test_block_variants_have_right_gradients(activation):
    model = make_model(
        head=HEADS["mse"],
        activation=activation,
        position="learned",
        max_positions=64,
        position_offset=2,
        residual_scale=0.7,
        attn_bias=activation != "swiglu",
        mlp_bias=activation != "swiglu",
    )
    trainer = _engine.Trainer(model, config_of(objective="mse"))
    tokens, offsets = tokens_of()
    trainer.set_dataset(tokens, offsets, targets_of("mse", len(LENGTHS)))
    # A step of relu's finite difference must stay clear of its kinks.
    step, slack = (1e-4, 4e-3) if activation == "relu" else (1e-3, 3e-4)
    for name in trainer.trained_parameters():
        slope, expected = directional(model, trainer, np.arange(len(LENGTHS)), [name], step)
        assert slope == pytest.approx(expected, rel=3e-2, abs=slack), name


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize(
    ("objective", "activation"), [("mse", "gelu"), ("mlm", "gelu"), ("mse", "swiglu")]
)
def test_recomputation_gives_the_same_bits(isa, dtype, mode, objective, activation):
    results = []
    for recompute in RECOMPUTE:
        model = make_model(
            dtype, HEADS["mse"], hidden_dropout=0.1, attention_dropout=0.1, activation=activation
        )
        model.add_adapter("a", 4, 8.0, 0.2, ["attn.q", "mlp.up", "mlp.down"], 3)
        trainer = _engine.Trainer(
            model,
            config_of(
                mode=mode, adapter="a", objective=objective, recompute=recompute, seed=9,
                mlm_residues=list(range(4, 24)), mlm_probability=0.4,
            ),
        )  # fmt: skip
        tokens, offsets = tokens_of()
        trainer.set_dataset(
            tokens, offsets, None if objective == "mlm" else targets_of(objective, len(LENGTHS))
        )
        loss, gradients = trainer.gradients(np.arange(len(LENGTHS)))
        results.append((loss, gradients))
    for loss, gradients in results[1:]:
        assert loss == results[0][0]
        for name, values in results[0][1].items():
            np.testing.assert_array_equal(values, gradients[name], err_msg=name)


def run_steps(count, threads=1, dtype="float32", interrupt=None, mode="lora"):
    _engine.set_num_threads(threads)

    def fresh():
        model = make_model(dtype, HEADS["mse"], hidden_dropout=0.1)
        model.add_adapter("a", 4, 8.0, 0.1, ["attn.q", "attn.v"], 3)
        trainer = _engine.Trainer(
            model,
            config_of(mode=mode, adapter="a", objective="mse", seed=4),
        )
        tokens, offsets = tokens_of()
        trainer.set_dataset(tokens, offsets, targets_of("mse", len(LENGTHS)))
        return model, trainer

    _, trainer = fresh()
    for i in range(count):
        if interrupt == i:
            state = trainer.state()
            _, trainer = fresh()
            trainer.load_state(state)
        trainer.step(np.array([i % 5, (i + 2) % 5, (i + 3) % 5]))
    return trainer.state()


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_resumed_run_is_the_uninterrupted_run(isa, dtype, mode):
    whole = run_steps(6, dtype=dtype, mode=mode)
    resumed = run_steps(6, dtype=dtype, mode=mode, interrupt=3)
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)


@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_training_does_not_depend_on_threads(isa, dtype, mode):
    states = [run_steps(3, threads, dtype, mode=mode) for threads in (1, 2, 3)]
    for other in states[1:]:
        for name, values in states[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("mode", ["full", "lora", "head"])
def test_micro_batches_accumulate_the_gradient_of_the_whole(isa, mode, recompute):
    results = []
    for max_tokens in (10_000, 20):
        model = make_model(head=HEADS["mse"])
        model.add_adapter("a", 4, 8.0, 0.0, ["attn.q", "mlp.up", "mlp.down"], 3)
        settings = {"mode": mode, "adapter": "a", "objective": "mse", "recompute": recompute}
        trainer = _engine.Trainer(model, config_of(max_tokens=max_tokens, **settings))
        tokens, offsets = tokens_of()
        trainer.set_dataset(
            tokens, offsets, targets_of("mse", 5), weights=np.array([1, 2, 3, 4, 5.0])
        )
        results.append(trainer.gradients(np.arange(5)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for name, values in results[0][1].items():
        scale = np.abs(values).max() + 1e-6
        np.testing.assert_allclose(results[1][1][name], values, atol=2e-5 * scale, err_msg=name)


def test_two_calls_of_gradients_do_not_add_up(isa):
    model = make_model(head=HEADS["mse"])
    trainer = _engine.Trainer(model, config_of(objective="mse"))
    tokens, offsets = tokens_of()
    trainer.set_dataset(tokens, offsets, targets_of("mse", 5))
    first, second = (trainer.gradients(np.arange(5))[1] for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_a_step_learns_and_reports():
    model = make_model(head=HEADS["mse"])
    trainer = _engine.Trainer(model, config_of(objective="mse", lr=3e-3))
    tokens, offsets = tokens_of()
    trainer.set_dataset(tokens, offsets, targets_of("mse", 5))
    rows = [trainer.step(np.arange(5)) for _ in range(60)]
    assert rows[-1]["loss"] < 0.2 * rows[0]["loss"]
    assert rows[0]["tokens"] == len(tokens)
    assert rows[-1]["step"] == 60


def test_schedule_warms_up_and_decays():
    model = make_model(head=HEADS["mse"])
    rates = {}
    for schedule in ("linear", "cosine", "constant"):
        trainer = _engine.Trainer(
            model,
            config_of(
                mode="head", objective="mse", lr=1.0, schedule=schedule, warmup_steps=2,
                total_steps=6, min_lr_ratio=0.1,
            ),
        )  # fmt: skip
        tokens, offsets = tokens_of()
        trainer.set_dataset(tokens, offsets, targets_of("mse", 5))
        rates[schedule] = [trainer.step(np.arange(2))["lr"] for _ in range(8)]
        del trainer
    cosine = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * np.array([0, 0.25, 0.5, 0.75, 1, 1])))
    linear = 0.1 + 0.9 * (1 - np.array([0, 0.25, 0.5, 0.75, 1, 1]))
    np.testing.assert_allclose(rates["cosine"], [0.5, 1.0, *cosine], rtol=1e-12)
    np.testing.assert_allclose(rates["linear"], [0.5, 1.0, *linear], rtol=1e-12)
    np.testing.assert_allclose(rates["constant"], [0.5] + [1.0] * 7)


def test_head_mode_leaves_the_encoder_alone():
    model = make_model(head=HEADS["mse"])
    before = {n: model.get_parameter(n) for n, _ in model.parameters()}
    trainer = _engine.Trainer(model, config_of(mode="head", objective="mse"))
    tokens, offsets = tokens_of()
    trainer.set_dataset(tokens, offsets, targets_of("mse", 5))
    trainer.step(np.arange(5))
    for name, values in before.items():
        same = np.array_equal(values, model.get_parameter(name))
        assert same != name.startswith("head."), name


def test_clipping_limits_the_step_by_the_global_norm():
    norms = []
    for clip in (0.0, 1e-3):
        model = make_model(head=HEADS["mse"])
        trainer = _engine.Trainer(model, config_of(objective="mse", clip_norm=clip, beta1=0.0))
        tokens, offsets = tokens_of()
        trainer.set_dataset(tokens, offsets, targets_of("mse", 5))
        result = trainer.step(np.arange(5))
        state = trainer.state()
        second = sum(float(v.sum(dtype=np.float64)) for k, v in state.items() if k[:2] == "v.")
        norms.append((result["grad_norm"], np.sqrt(second / (1 - 0.999))))
    assert norms[0][0] == pytest.approx(norms[0][1], rel=1e-4)
    assert norms[1][1] == pytest.approx(1e-3, rel=1e-4)


BAD = [
    ({"objective": "nonsense"}, "objective = 'nonsense', allowed mse, huber"),
    ({"lr": -1.0}, "lr = -1, allowed 0 .. 10"),
    ({"learning_rate": 1.0}, "there is no field 'learning_rate'"),
    ({"mode": "lora", "adapter": "zzz"}, "there is no adapter 'zzz'"),
    ({"objective": "tobit"}, "log_sigma"),
    ({"objective": "mlm"}, "mlm_residues"),
    ({"objective": "mse", "head_weight": 1.0}, "head_weight = 1 goes with objective mlm, got mse"),
    ({"head_weight": -1.0}, "head_weight = -1, allowed 0"),
    ({"lr": "fast"}, "lr = 'fast' is of the wrong type"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_configuration(values, message):
    model = make_model(head=HEADS["mse"])
    with pytest.raises(ValueError, match=message):
        _engine.Trainer(model, config_of(**values))


def test_bad_data_is_refused():
    model = make_model(head=HEADS["cross_entropy"])
    trainer = _engine.Trainer(model, config_of(objective="cross_entropy"))
    tokens, offsets = tokens_of()
    with pytest.raises(ValueError, match=r"class 3 in target row 4, allowed 0 \.\. 2"):
        trainer.set_dataset(tokens, offsets, np.array([[0], [1], [2], [0], [3.0]]))
    with pytest.raises(ValueError, match="no dataset"):
        trainer.step(np.arange(2))
    with pytest.raises(ValueError, match=r"4 target values for 5 rows"):
        trainer.set_dataset(tokens, offsets, np.zeros((4, 1)))
    bad = tokens.copy()
    bad[3] = 99
    with pytest.raises(ValueError, match=r"token 99, allowed 0 \.\. 32"):
        trainer.set_dataset(bad, offsets, np.zeros((5, 1)))
    trainer.set_dataset(tokens, offsets, np.zeros((5, 1)))
    with pytest.raises(ValueError, match="row 5 of a dataset of 5"):
        trainer.step(np.array([5]))
    with pytest.raises(ValueError, match="is being trained"):
        model.set_head({"pool": "mean"}, 0)


def test_a_head_beside_masked_lm_needs_its_targets():
    values = config_of(objective="mlm", head_weight=1.0, mlm_residues=[4], mlm_probability=0.4)
    with pytest.raises(ValueError, match="mlm with head_weight needs a task head"):
        _engine.Trainer(make_model(), values)
    trainer = _engine.Trainer(make_model(head=HEADS["mse"]), values)
    with pytest.raises(ValueError, match="2 outputs needs 2 target columns, got 0"):
        trainer.set_dataset(*tokens_of())


def test_a_step_that_diverges_leaves_the_weights():
    model = make_model(head=HEADS["mse"])
    trainer = _engine.Trainer(model, config_of(objective="mse"))
    tokens, offsets = tokens_of()
    trainer.set_dataset(tokens, offsets, np.full((5, 2), 3e38, dtype=np.float32))
    before = model.get_parameter("head.out.weight")
    with pytest.raises(ValueError, match="not finite"):
        trainer.step(np.arange(5))
    np.testing.assert_array_equal(before, model.get_parameter("head.out.weight"))
