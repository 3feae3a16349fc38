"""An encoder with a stream of pairs: the values and gradients of unimol_tools, dropout against
finite differences, and the engine's own rules (bits, recomputation, memory, refusals)."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_unimol2 import batch, golden, tiny_model

import moltide._engine as engine
from comparison import assert_same_bits

pytest.importorskip("rdkit")

RECOMPUTE = ("none", "mlp", "blocks")
PAIRS = ("outer", "triangle", "pair_mlp")
# A constant on all of a query's scores changes no probability: gradients are rounding alone.
NO_GRADIENT = (".attn.pair.bias", "layers.1.pair_mlp.down.bias")


@pytest.fixture(scope="module")
def expected():
    return golden()


@pytest.fixture(scope="module")
def molecules():
    return batch()


def near(actual, wanted, relative):
    assert np.abs(actual - wanted).max() <= relative * np.abs(wanted).max()


def hidden(model, given, **options):
    tokens, cu, extras = given
    return model.hidden(tokens, cu, coordinates=extras, **options)


def trainer_of(model, given, targets, **config):
    tokens, cu, extras = given
    settings = {"objective": "mse", "clip_norm": 0.0, "lr": 1e-3, "schedule": "constant"}
    trainer = engine.Trainer(model, {**settings, **config})
    trainer.set_dataset(tokens, cu.astype(np.int64), targets[:, None], coordinates=extras)
    return trainer


def regression_model(dtype="float32", **config):
    """With the head that the golden loss was computed with."""
    return tiny_model(dtype, outputs=1, **config)


def published(name):
    from moltide.pretrained import unimol2

    return unimol2.NAMES.published(name, "", "sequence")


def test_values(isa, expected, molecules):
    model = tiny_model()
    found = hidden(model, molecules)
    _, cu, _ = molecules
    for i in range(len(cu) - 1):
        near(found[cu[i] : cu[i + 1]], expected[f"{i}.hidden"], 1e-5)
    pooled = model.pooled(*molecules[:2], "cls", coordinates=molecules[2])
    assert_same_bits(pooled, found[cu[:-1]])
    mean = model.pooled(*molecules[:2], "mean", coordinates=molecules[2])
    near(mean[1], found[cu[1] + 1 : cu[2]].mean(axis=0), 1e-6)


@pytest.mark.parametrize(("dtype", "allowed"), [("bf16", 0.03), ("int8", 0.2)])
def test_values_in_narrow_types(isa, dtype, allowed, molecules):
    exact = hidden(tiny_model(), molecules)
    found = hidden(tiny_model(dtype), molecules)
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < allowed


@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_gradients(isa, recompute, expected, molecules):
    model = regression_model()
    trainer = trainer_of(model, molecules, expected["targets"], mode="full", recompute=recompute)
    loss, gradients = trainer.gradients(np.arange(5))
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-5)
    unread = 0
    for name, found in gradients.items():
        wanted = expected.get("grad." + published(name))
        if wanted is None:  # what the last layer makes of its pairs
            assert name.startswith("layers.2."), name
            assert name.split(".")[2].startswith(PAIRS), name
            assert not found.any(), name
            unread += 1
        elif name.endswith(NO_GRADIENT):
            assert np.abs(found).max() < 1e-5 * np.abs(gradients[name[:-4] + "weight"]).max(), name
        else:
            near(found, wanted.reshape(found.shape), 1e-4)
    assert unread == 24
    missing = {k for k in expected if k.startswith("grad.") and "movement" not in k}
    assert missing == {"grad." + published(name) for name in gradients} & missing


def test_gradients_bf16(isa, expected, molecules):
    exact = trainer_of(regression_model(), molecules, expected["targets"], mode="full")
    narrow = trainer_of(regression_model("bf16"), molecules, expected["targets"], mode="full")
    wanted, found = (t.gradients(np.arange(5))[1] for t in (exact, narrow))
    for name, want in wanted.items():
        if want.any() and not name.endswith(NO_GRADIENT):
            # What Gaussians' steep sides give cancels: rounding is more of it.
            allowed = 0.4 if name in ("pair.mul.weight", "pair.bias.weight") else 0.15
            assert np.linalg.norm(found[name] - want) < allowed * np.linalg.norm(want), name


def assert_slopes(model, trainer, names):
    """The loss along each parameter's gradient; the same draws of dropout every time."""
    rows, steep = np.arange(5), 0
    gradients = trainer.gradients(rows)[1]
    for name in names:
        norm = float(np.linalg.norm(gradients[name].astype(np.float64)))
        if name.endswith(NO_GRADIENT) or norm == 0:
            continue
        at = model.get_parameter(name)
        # Gaussians are narrow: what moves distances moves them but a little.
        far = 3e-4 if name in ("pair.mul.weight", "pair.bias.weight") else 3e-3
        losses = []
        for sign in (1, -1):
            model.set_parameter(name, at + sign * far / norm * gradients[name])
            losses.append(trainer.gradients(rows)[0])
        model.set_parameter(name, at)
        wanted = 2 * far * norm
        steep += wanted > 1e-3
        assert losses[0] - losses[1] == pytest.approx(wanted, rel=0.03, abs=2e-5), name
    return steep


def test_dropout_against_finite_differences(expected, molecules):
    model = regression_model(hidden_dropout=0.2, attention_dropout=0.1, pair_dropout=0.3)
    trainer = trainer_of(model, molecules, expected["targets"], mode="full")
    loss, gradients = trainer.gradients(np.arange(5))
    plain = trainer_of(regression_model(), molecules, expected["targets"], mode="full")
    assert abs(loss - plain.gradients(np.arange(5))[0]) > 1e-3
    chosen = ("layers.0.", "layers.1.", "pair.", "embed.")
    assert assert_slopes(model, trainer, [n for n in gradients if n.startswith(chosen)]) > 40


def test_recomputing_changes_no_bit(expected, molecules):
    results = []
    for recompute in RECOMPUTE:
        model = regression_model(hidden_dropout=0.1, attention_dropout=0.2, pair_dropout=0.25)
        trainer = trainer_of(
            model, molecules, expected["targets"], mode="full", recompute=recompute, max_tokens=20
        )
        steps = [trainer.step(np.arange(5))["loss"] for _ in range(3)]
        results.append((steps, trainer.state()))
    for steps, state in results[1:]:
        assert steps == results[0][0]
        for name, values in state.items():
            np.testing.assert_array_equal(values, results[0][1][name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_bits_do_not_depend_on_the_batch_or_threads(dtype, molecules):
    model = tiny_model(dtype)
    engine.set_num_threads(1)
    together = hidden(model, molecules)
    cu = molecules[1]
    for threads in (1, 3):
        engine.set_num_threads(threads)
        assert_same_bits(hidden(model, molecules), together)
        for r in range(5):
            assert_same_bits(hidden(model, batch([r])), together[cu[r] : cu[r + 1]])
        wanted = np.concatenate([together[cu[r] : cu[r + 1]] for r in (3, 0)])
        assert_same_bits(hidden(model, batch([3, 0])), wanted)


def test_gradients_do_not_depend_on_threads(expected, molecules):
    found = []
    for threads in (1, 3):
        engine.set_num_threads(threads)
        trainer = trainer_of(
            regression_model(pair_dropout=0.2),
            molecules,
            expected["targets"],
            mode="full",
        )
        found.append(trainer.gradients(np.arange(5))[1])
    for name, values in found[0].items():
        assert_same_bits(values, found[1][name])


def test_lora_and_head_training(expected, molecules):
    model = regression_model()
    frozen = {n: model.get_parameter(n) for n, _ in model.parameters() if not n.startswith("head")}
    model.add_adapter("a", 2, 4.0, 0.1, ["attn.q", "attn.v", "mlp.up"], 3)
    for options in ({"mode": "lora", "adapter": "a"}, {"mode": "head"}):
        trainer = trainer_of(model, molecules, expected["targets"], lr=0.02, **options)
        losses = [trainer.step(np.arange(5))["loss"] for _ in range(60)]
        assert losses[-1] < 0.5 * losses[0]
        del trainer
    for name, values in frozen.items():
        assert_same_bits(model.get_parameter(name), values)


def test_lora_gradients_against_finite_differences(expected, molecules):
    """Through the updates of the pairs, which have no gradients of their own then."""
    model = regression_model()
    model.add_adapter("a", 2, 4.0, 0.0, ["attn.q", "attn.out", "mlp.up"], 3)
    rng = np.random.default_rng(0)
    for name, shape in model.parameters():
        if name.endswith("lora_b"):
            model.set_parameter(name, rng.normal(0, 0.3, shape).astype(np.float32))
    trainer = trainer_of(model, molecules, expected["targets"], mode="lora", adapter="a")
    names = list(trainer.gradients(np.arange(5))[1])
    assert assert_slopes(model, trainer, [n for n in names if ".0." in n or ".1." in n]) > 8


def test_pairs_count_in_the_memory_plan(expected, molecules):
    trainer = trainer_of(regression_model(), molecules, expected["targets"], mode="full")
    plans = [trainer.plan_memory([length] * 4)["activations"] for length in (20, 40, 80)]
    stream = 4 * 4 * 12 * 4  # bytes, streams of 3 layers and a gradient, width; 4 molecules
    assert plans[2] - plans[1] > stream * (80**2 - 40**2)
    assert tiny_model().plan_memory([200])["activations"] > 4 * 12 * 200**2


def test_refusals(expected, molecules):
    tokens, cu, (where, of_tokens, of_pairs) = molecules
    model = tiny_model()
    with pytest.raises(
        ValueError, match="10 categories for each of 39 tokens and 5 for each of 367"
    ):
        model.hidden(tokens, cu, coordinates=where)
    with pytest.raises(ValueError, match=r"pairs have shape \(366, 5\), expected \(367, 5\)"):
        model.hidden(tokens, cu, coordinates=(where, of_tokens, of_pairs[1:]))
    wrong = of_tokens.copy()
    wrong[3, 0] = 128
    with pytest.raises(ValueError, match="category 0 of token 3 is 128, allowed: -1 to 127"):
        model.hidden(tokens, cu, coordinates=(where, wrong, of_pairs))
    wrong = of_pairs.copy()
    wrong[60, 1] = 64
    with pytest.raises(ValueError, match="category 0 of row 11 is 64, allowed: -1 to 63"):
        model.hidden(tokens, cu, coordinates=(where, of_tokens, wrong))
    with pytest.raises(ValueError, match="pair_width = 12 and pair_hidden = 0, allowed both 0"):
        engine.Model({**model.config, "pair_hidden": 0}, "float32")
    trainer = engine.Trainer(regression_model(), {"objective": "mse", "mode": "full"})
    with pytest.raises(
        ValueError, match="no categories of tokens and pairs, which the model needs"
    ):
        trainer.set_dataset(
            tokens, cu.astype(np.int64), expected["targets"][:, None], coordinates=where
        )
