"""An encoder with a pair bias: the values and gradients of unimol_tools, and the engine's own rules
(bits, recomputation, what is trained, refusals)."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_unimol import golden, renamed, tiny_model

import moltide._engine as engine
from comparison import assert_same_bits

RECOMPUTE = ("none", "mlp", "blocks")
# A constant on all of a query's scores changes no probability: their gradients are zero but for
# rounding.
NO_GRADIENT = (".attn.k.bias", "pair.heads.bias")


@pytest.fixture(scope="module")
def expected():
    return golden()


def batch_of(expected, rows=None):
    """tokens, cu_seqlens and coordinates of some of the molecules."""
    cu = expected["cu"]
    rows = range(len(cu) - 1) if rows is None else rows
    index = np.concatenate([np.arange(cu[r], cu[r + 1]) for r in rows])
    lengths = [cu[r + 1] - cu[r] for r in rows]
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return expected["tokens"][index], bounds, expected["coordinates"][index]


def hidden(model, expected, rows=None, **options):
    tokens, cu, coordinates = batch_of(expected, rows)
    return model.hidden(tokens, cu, coordinates=coordinates, **options)


def trainer_of(model, expected, **config):
    settings = {"objective": "mse", "clip_norm": 0.0, "lr": 1e-3, "schedule": "constant"}
    trainer = engine.Trainer(model, {**settings, **config})
    targets = None if config.get("objective") == "mlm" else expected["targets"][:, None]
    trainer.set_dataset(
        expected["tokens"],
        expected["cu"].astype(np.int64),
        targets,
        coordinates=expected["coordinates"],
    )
    return trainer


def regression_model(expected, dtype="float32", **config):
    model = tiny_model(dtype, head={"pool": "cls", "outputs": 1}, **config)
    for name in ("head.out.weight", "head.out.bias"):
        model.set_parameter(name, expected[name])
    return model


def assert_near(actual, wanted, relative):
    assert np.abs(actual - wanted).max() <= relative * np.abs(wanted).max()


def test_values(isa, expected):
    tokens, cu, coordinates = batch_of(expected)
    model = tiny_model()
    assert_near(hidden(model, expected), expected["hidden"], 1e-5)
    assert_near(model.logits(tokens, cu, coordinates=coordinates), expected["logits"], 1e-5)
    probs = model.attention_probs(tokens, cu, 2, coordinates=coordinates)
    np.testing.assert_allclose(probs[0], expected["probabilities"], atol=1e-6)
    pooled = model.pooled(tokens, cu, "cls", coordinates=coordinates)
    assert_same_bits(pooled, hidden(model, expected)[cu[:-1]])


def test_values_in_narrow_types(isa, expected):
    for dtype, allowed in (("bf16", 0.03), ("int8", 0.2)):
        found = hidden(tiny_model(dtype), expected)
        error = np.linalg.norm(found - expected["hidden"]) / np.linalg.norm(expected["hidden"])
        assert error < allowed, dtype


@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_gradients(isa, recompute, expected):
    trainer = trainer_of(regression_model(expected), expected, mode="full", recompute=recompute)
    loss, gradients = trainer.gradients(np.arange(4))
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-5)
    wanted = renamed({k[5:]: v for k, v in expected.items() if k.startswith("grad.")})
    assert set(gradients) == set(wanted) | {"head.out.weight", "head.out.bias"}
    for name, want in wanted.items():
        if name.endswith(NO_GRADIENT):
            scale = np.abs(wanted[name.replace("bias", "weight")]).max()
            assert np.abs(gradients[name]).max() < 1e-5 * scale, name
        else:
            assert_near(gradients[name], want, 1e-4)


def test_gradients_bf16(isa, expected):
    trainer = trainer_of(regression_model(expected, "bf16"), expected, mode="full")
    _, gradients = trainer.gradients(np.arange(4))
    wanted = renamed({k[5:]: v for k, v in expected.items() if k.startswith("grad.")})
    for name, want in wanted.items():
        if not name.endswith(NO_GRADIENT):
            error = np.linalg.norm(gradients[name] - want) / np.linalg.norm(want)
            assert error < 0.1, name


def test_recomputing_changes_no_bit(expected):
    results = []
    for recompute in RECOMPUTE:
        model = regression_model(expected, hidden_dropout=0.1, attention_dropout=0.2)
        trainer = trainer_of(model, expected, mode="full", recompute=recompute, max_tokens=20)
        steps = [trainer.step(np.arange(4))["loss"] for _ in range(3)]
        results.append((steps, trainer.state()))
    for steps, state in results[1:]:
        assert steps == results[0][0]
        for name, values in state.items():
            np.testing.assert_array_equal(values, results[0][1][name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_bits_do_not_depend_on_the_batch_or_threads(dtype, expected):
    model = tiny_model(dtype)
    engine.set_num_threads(1)
    together = hidden(model, expected)
    cu = expected["cu"]
    for threads in (1, 3):
        engine.set_num_threads(threads)
        assert_same_bits(hidden(model, expected), together)
        for r in range(4):
            assert_same_bits(hidden(model, expected, [r]), together[cu[r] : cu[r + 1]])
        assert_same_bits(
            hidden(model, expected, [2, 0]),
            np.concatenate([together[cu[r] : cu[r + 1]] for r in (2, 0)]),
        )


def test_moving_and_turning_a_molecule_changes_little(expected):
    """The model sees distances alone; <cls> and <sep> stay where they are, so atoms may turn."""
    model = tiny_model()
    tokens, cu, coordinates = batch_of(expected)
    angle = 0.7
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    turned = (coordinates @ turn.T).astype(np.float32)
    assert_near(model.hidden(tokens, cu, coordinates=turned), hidden(model, expected), 1e-4)
    stretched = model.hidden(tokens, cu, coordinates=(1.3 * coordinates).astype(np.float32))
    assert np.abs(stretched - hidden(model, expected)).max() > 1e-2


def test_lora_and_head_training(expected):
    model = regression_model(expected)
    frozen = {n: model.get_parameter(n) for n, _ in model.parameters() if not n.startswith("head")}
    model.add_adapter("a", 2, 4.0, 0.1, ["attn.q", "attn.v", "mlp.up"], 3)
    for options in ({"mode": "lora", "adapter": "a"}, {"mode": "head"}):
        trainer = trainer_of(model, expected, lr=0.02, **options)
        losses = [trainer.step(np.arange(4))["loss"] for _ in range(40)]
        assert losses[-1] < 0.5 * losses[0]
        del trainer
    for name, values in frozen.items():
        assert_same_bits(model.get_parameter(name), values)


def test_masked_lm_trains(expected):
    model = tiny_model()
    trainer = trainer_of(
        model,
        expected,
        objective="mlm",
        mode="full",
        lr=3e-3,
        mlm_probability=0.3,
        mlm_residues=list(range(4, 30)),
    )
    before = {n: model.get_parameter(n) for n in ("pair.mul.weight", "pair.heads.weight")}
    losses = [trainer.step(np.arange(4))["loss"] for _ in range(150)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])
    for name, values in before.items():
        assert np.abs(model.get_parameter(name) - values).max() > 1e-3, name


def test_pairs_count_in_the_memory_plan(expected):
    model = regression_model(expected)
    trainer = trainer_of(model, expected, mode="full")
    plans = [trainer.plan_memory([length] * 4)["activations"] for length in (20, 40, 80)]
    pairs = 4 * 4 * 5 * 4  # heads, bytes, planes of 3 layers, the bias and a gradient; 4 molecules
    assert plans[2] - plans[1] > pairs * (80**2 - 40**2)
    assert model.plan_memory([300])["activations"] > 4 * 4 * 300**2


@pytest.mark.parametrize(
    ("coordinates", "message"),
    [
        (None, "the model needs 3 coordinates for each of 5 tokens, got 0 numbers"),
        (np.zeros((4, 3)), r"coordinates have shape \(4, 3\), expected \(5, 3\)"),
        (np.full((5, 3), np.nan), "coordinate 0 of token 0 is nan, allowed: finite numbers"),
    ],
)
def test_refuses_bad_coordinates(coordinates, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().hidden(np.full(5, 4, np.int32), np.array([0, 5]), coordinates=coordinates)


def test_refuses_bad_configs_and_datasets(expected):
    with pytest.raises(ValueError, match=r"pair_basis = 0, allowed 1 \.\. 4096"):
        tiny_model(pair_basis=0)
    trainer = engine.Trainer(regression_model(expected), {"objective": "mse", "mode": "full"})
    with pytest.raises(ValueError, match="0 coordinates for 35 tokens, 3 for each are needed"):
        trainer.set_dataset(
            expected["tokens"], expected["cu"].astype(np.int64), expected["targets"][:, None]
        )
