"""MoLFormer in the engine against its float64 reference, values and gradients of every parameter,
and that reference against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_training import RECOMPUTE

from molformer_models import (
    engine_model,
    packed,
    published_config,
    published_gradients,
    random_tensors,
    sequences,
)
from moltide import _engine
from moltide.pretrained import molformer
from reference import losses
from reference.molformer import Molformer

HEAD = {"pool": "mean", "form": "skip", "hidden": 48, "outputs": 2}
TARGETS = np.array([[0.3, 1], [-1.0, np.nan], [2.0, 0], [0.7, 0.2]], dtype=np.float32)
# NumPy's largest difference over the largest value.
TOLERANCE = 1e-4


def with_head(**fields):
    fields = {"architectures": ["MolformerForSequenceClassification"], "num_labels": 2, **fields}
    return published_config(**fields)


def close(actual, wanted, tolerance=TOLERANCE):
    assert actual.shape == wanted.shape
    assert np.abs(actual - wanted).max() <= tolerance * (np.abs(wanted).max() + 1e-12)


def regression(model, parts):
    """(loss, gradients) of the mean squared error over TARGETS, as the trainer weighs it."""
    outputs = [model.classify(part) for part in parts]
    predicted = np.concatenate([z for z, _ in outputs])
    total, gradient = losses.mse(predicted, TARGETS)
    weight = losses.loss_weight(TARGETS)
    for (_, backward), row in zip(outputs, gradient, strict=True):
        backward(row[None] / weight)
    return total / weight, model.gradients


def our_regression(model, parts, rows=None, **settings):
    tokens, cu = packed(parts)
    trainer = _engine.Trainer(model, {"objective": "mse", "mode": "full", **settings})
    trainer.set_dataset(tokens, cu.astype(np.int64), TARGETS)
    return trainer.gradients(np.arange(len(parts)) if rows is None else rows)


def test_reference_gradient_is_the_finite_difference():
    config = with_head(hidden_size=16, num_attention_heads=2, num_hidden_layers=2, vocab_size=12)
    head = {**HEAD, "hidden": 16}
    tensors = {k: v.astype(np.float64) for k, v in random_tensors(config, head).items()}
    parts = sequences(vocab=12, lengths=(4, 1, 6, 2))
    _, analytic = regression(Molformer(config, tensors), parts)
    rng = np.random.default_rng(0)
    for name, values in tensors.items():
        if "feature_map" in name:
            assert name not in analytic
            continue
        at = tuple(rng.integers(0, n) for n in values.shape)
        if "word_embeddings" in name:
            at = (0, at[1])
        results = []
        for sign in (1, -1):
            moved = dict(tensors)
            moved[name] = values.copy()
            moved[name][at] += sign * 1e-6
            results.append(regression(Molformer(config, moved), parts)[0])
        slope = (results[0] - results[1]) / 2e-6
        assert slope == pytest.approx(analytic[name][at], rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("shape", [{}, {"hidden_size": 128, "num_attention_heads": 2},
                                   {"hidden_size": 24, "num_random_features": 33}])  # fmt: skip
def test_values_float32(vector_isa, shape):
    config = published_config(**shape)
    tensors, parts = random_tensors(config), sequences()
    model, exact = engine_model(config, tensors), Molformer(config, tensors)
    tokens, cu = packed(parts)
    hidden = model.hidden(tokens, cu, None, True)
    logits = model.logits(tokens, cu)
    pooled = model.pooled(tokens, cu, "mean")
    for b, part in enumerate(parts):
        rows = slice(cu[b], cu[b + 1])
        wanted, _ = exact.encode(part)
        close(hidden[:, rows], wanted)
        close(logits[rows], exact.logits(part)[0])
        # The published pooler counts <bos> and <eos>.
        close(pooled[b], wanted[-1].mean(0))


def test_classification_head_and_its_gradients():
    config = with_head()
    tensors, parts = random_tensors(config, HEAD), sequences()
    model = engine_model(config, tensors, HEAD)
    wanted, gradients = regression(Molformer(config, tensors), parts)
    tokens, cu = packed(parts)
    close(model.predict(tokens, cu), np.concatenate(
        [Molformer(config, tensors).classify(p)[0] for p in parts]))  # fmt: skip
    for recompute in RECOMPUTE:
        loss, ours = our_regression(model, parts, redraw_features=False, recompute=recompute)
        assert loss == pytest.approx(wanted, rel=1e-5)
        ours = published_gradients(ours, "sequence")
        assert set(ours) == set(gradients)
        for name, values in ours.items():
            close(values, gradients[name].reshape(values.shape))


def test_masked_lm_gradients():
    config = published_config()
    tensors, parts = random_tensors(config), sequences(lengths=(30, 21))
    tokens, cu = packed(parts)
    trainer = _engine.Trainer(
        engine_model(config, tensors),
        {
            "objective": "mlm", "mode": "full", "redraw_features": False, "mlm_mask": 0.0,
            "mlm_random": 0.0, "mlm_probability": 1.0, "mlm_residues": list(range(4, 40)),
        },
    )  # fmt: skip
    trainer.set_dataset(tokens, cu.astype(np.int64))
    loss, ours = trainer.gradients(np.arange(2))
    # Every residue is chosen and none is written over: the loss is over all of them.
    exact, total, count = Molformer(config, tensors), 0.0, sum(len(p) - 2 for p in parts)
    for part in parts:
        z, backward = exact.logits(part)
        labels = np.r_[-1, part[1:-1], -1]
        value, gradient = losses.cross_entropy(z, labels)
        total += value / count
        backward(gradient / count)
    assert loss == pytest.approx(total, rel=1e-5)
    ours = published_gradients(ours, "lm")
    assert set(ours) == set(exact.gradients)
    for name, values in ours.items():
        close(values, exact.gradients[name].reshape(values.shape))


def test_training_draws_new_features_each_step_and_keeps_the_stored_ones():
    config = with_head()
    tensors, parts = random_tensors(config, HEAD), sequences()
    model = engine_model(config, tensors, HEAD)
    seed, site, micro_batches = 11, 20, 4096
    for step in (0, 3):
        features = {
            layer: _engine.ops.draw_orthogonal_features(
                seed, (step * micro_batches << 24) | (layer << 8) | site, 16, 12
            )
            for layer in range(3)
        }
        wanted, gradients = regression(Molformer(config, tensors, features), parts)
        tokens, cu = packed(parts)
        trainer = _engine.Trainer(model, {"objective": "mse", "mode": "full", "seed": seed})
        trainer.set_dataset(tokens, cu.astype(np.int64), TARGETS)
        state = trainer.state()
        state["step"] = step
        trainer.load_state(state)
        loss, ours = trainer.gradients(np.arange(4))
        assert loss == pytest.approx(wanted, rel=1e-5)
        for name, values in published_gradients(ours, "sequence").items():
            close(values, gradients[name].reshape(values.shape))
        assert not any("features" in name for name in trainer.trained_parameters())
        trainer.step(np.arange(4))
        del trainer
        for layer in range(3):
            name = f"layers.{layer}.attn.features"
            stored = tensors[molformer.NAMES.published(name, "molformer.")]
            np.testing.assert_array_equal(model.get_parameter(name), stored)
        model = engine_model(config, tensors, HEAD)


def test_features_of_a_step_do_not_depend_on_its_micro_batches():
    config = with_head()
    tensors, parts = random_tensors(config, HEAD), sequences()
    model = engine_model(config, tensors, HEAD)
    loss, together = our_regression(model, parts, seed=4)
    split_loss, split = our_regression(model, parts, seed=4, max_tokens=20)
    assert loss == pytest.approx(split_loss, rel=1e-6)
    for name, values in together.items():
        close(split[name], values, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_recomputation_and_threads_change_no_bit(dtype):
    config = with_head(hidden_dropout_prob=0.1, embedding_dropout_prob=0.2)
    tensors, parts = random_tensors(config, HEAD), sequences()
    found = []
    for recompute in RECOMPUTE:
        for threads in (1, 3):
            _engine.set_num_threads(threads)
            model = engine_model(config, tensors, {**HEAD, "dropout": 0.1}, dtype)
            found.append(our_regression(model, parts, seed=9, recompute=recompute))
    for loss, gradients in found[1:]:
        assert loss == found[0][0]
        for name, values in gradients.items():
            np.testing.assert_array_equal(values, found[0][1][name])


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
def test_alone_and_batched_are_the_same_bits(isa, dtype):
    config = with_head(hidden_size=128, num_attention_heads=2, num_random_features=32)
    head = {**HEAD, "hidden": 128}
    tensors, parts = random_tensors(config, head), sequences(lengths=(5, 300, 1, 40, 0))
    model = engine_model(config, tensors, head, dtype)
    tokens, cu = packed(parts)
    results = model.hidden(tokens, cu), model.predict(tokens, cu)
    for b, part in enumerate(parts):
        alone = np.array([0, len(part)], np.int32)
        np.testing.assert_array_equal(model.hidden(part, alone), results[0][cu[b] : cu[b + 1]])
        np.testing.assert_array_equal(model.predict(part, alone)[0], results[1][b])


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.1), ("int8", 0.2)])
def test_narrow_types_stay_near(dtype, tolerance):
    config = published_config()
    tensors, parts = random_tensors(config), sequences()
    tokens, cu = packed(parts)
    exact = np.concatenate([Molformer(config, tensors).logits(p)[0] for p in parts])
    ours = engine_model(config, tensors, dtype=dtype).logits(tokens, cu)
    assert np.sqrt(np.mean((ours - exact) ** 2)) <= tolerance * np.sqrt(np.mean(exact**2))


def test_dropout_draws_are_those_of_the_forward():
    """With dropout everywhere the gradient is still the derivative of the loss: one coordinate of
    the head, of a norm and of the embedding."""
    config = with_head(hidden_dropout_prob=0.2, embedding_dropout_prob=0.3)
    tensors, parts = random_tensors(config, HEAD), sequences()
    model = engine_model(config, tensors, {**HEAD, "dropout": 0.25})
    _, gradients = our_regression(model, parts, seed=2)
    for name, at in [
        ("head.dense.bias", (3,)), ("head.dense2.weight", (2, 5)), ("final_norm.bias", (7,)),
        ("embed.tokens.weight", (0, 9)), ("layers.1.attn.v.bias", (4,)),
    ]:  # fmt: skip
        values, step = model.get_parameter(name), np.float32(4e-3)
        losses_at = []
        for sign in (1, -1):
            moved = values.copy()
            moved[at] += sign * step
            model.set_parameter(name, moved)
            losses_at.append(our_regression(model, parts, seed=2)[0])
        model.set_parameter(name, values)
        slope = (losses_at[0] - losses_at[1]) / (2 * float(step))
        scale = np.abs(gradients[name]).max()
        assert abs(slope - gradients[name][at]) <= 2e-2 * scale, name


def test_lora_gradients_flow_through_linear_attention():
    config = with_head()
    tensors, parts = random_tensors(config, HEAD), sequences()
    model = engine_model(config, tensors, HEAD)
    model.add_adapter("a", 4, 8.0, 0.0, ["attn.q", "attn.k", "attn.v", "attn.out"])
    rng = np.random.default_rng(0)
    for name, shape in model.parameters():
        if name.startswith("adapters."):
            model.set_parameter(name, rng.normal(0, 0.1, shape).astype(np.float32))
    _, ours = our_regression(model, parts, mode="lora", adapter="a", redraw_features=False)
    scale, merged = 2.0, dict(tensors)
    adapted = {name.removesuffix(".lora_a") for name in ours if name.endswith(".lora_a")}
    assert len(adapted) == 12

    def published(site):
        projection = site.removeprefix("adapters.a.") + ".weight"
        return molformer.NAMES.published(projection, "molformer.")

    for site in adapted:
        a, b = (model.get_parameter(f"{site}.lora_{side}") for side in "ab")
        merged[published(site)] = tensors[published(site)] + scale * b @ a
    exact = Molformer(config, merged)
    regression(exact, parts)
    for site in adapted:
        a, b = (model.get_parameter(f"{site}.lora_{side}") for side in "ab")
        dw = exact.gradients[published(site)]
        close(ours[f"{site}.lora_a"], scale * b.T.astype(np.float64) @ dw)
        close(ours[f"{site}.lora_b"], scale * dw @ a.T)


def test_attention_weights_are_those_of_linear_attention():
    config = published_config()
    tensors, parts = random_tensors(config), sequences()
    model = engine_model(config, tensors)
    tokens, cu = packed(parts)
    for layer in (0, 2):
        maps = model.attention_probs(tokens, cu, layer)
        for weights, part in zip(maps, parts, strict=True):
            assert weights.shape == (3, len(part), len(part))
            sums = weights.sum(2)
            assert (np.isclose(sums, 1, atol=1e-5) | (sums == 0)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features = 0, allowed 1 .. 256 with attention = linear"),
        ({"features": 257}, "features = 257"),
        ({"linear_eps": 0.0}, "linear_eps = 0, allowed"),
        ({"attention_dropout": 0.1}, "attention_dropout = 0.1, allowed 0 with attention = linear"),
        ({"contact_head": True}, "contact_head = true"),
        ({"attention": "softmax"}, "features = 12, allowed 1 .. 256 with attention = linear, else"),
    ],
)
def test_refuses_with_the_values(change, message):
    config = molformer.config_from_published(published_config(), "config").config
    with pytest.raises(ValueError, match=message):
        _engine.Model({**config, **change}, "float32")


def test_a_skip_head_has_the_width_of_its_encoder():
    config = published_config()
    with pytest.raises(ValueError, match="hidden = 32, allowed the encoder's width 48"):
        engine_model(config, random_tensors(config)).set_head({**HEAD, "hidden": 32}, 0)
