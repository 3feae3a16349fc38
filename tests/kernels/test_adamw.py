"""AdamW against its float64 reference and against torch where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_within
from reference.adamw import adamw as reference

ops = engine.ops
SETTINGS = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.98, "eps": 1e-8, "weight_decay": 0.05}


def state(rng, n):
    w, g, m = (rng.normal(size=n).astype(np.float32) for _ in range(3))
    return w, g, m, rng.uniform(0, 2, size=n).astype(np.float32)


@pytest.mark.parametrize("n", [1, 3, 4, 15, 16, 17, 33, 1000])
@pytest.mark.parametrize("step", [1, 2, 100_000])
def test_one_step(n, step, isa, rng):
    w, g, m, v = state(rng, n)
    settings = {k: float(np.float32(value)) for k, value in SETTINGS.items()}
    expected = reference(w, g, m, v, **settings, step=step, grad_scale=0.25)
    ops.adamw(w, g, m, v, **SETTINGS, step=step, grad_scale=0.25)
    for actual, want in zip((w, m, v), expected, strict=True):
        assert_within(actual, want, "adamw")


def test_many_steps_follow_torch(rng):
    torch = pytest.importorskip("torch")
    w = rng.normal(size=77).astype(np.float32)
    ours, m, v = w.copy(), np.zeros_like(w), np.zeros_like(w)
    theirs = torch.nn.Parameter(torch.from_numpy(w.copy()))
    optimiser = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05)
    for step in range(1, 51):
        g = rng.normal(size=77).astype(np.float32)
        ops.adamw(ours, g, m, v, **SETTINGS, step=step)
        theirs.grad = torch.from_numpy(g.copy())
        optimiser.step()
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_first_step_is_the_sign_of_the_gradient():
    w, m, v = (np.zeros(3, np.float32) for _ in range(3))
    g = np.array([1e-3, -5.0, 0.0], np.float32)
    ops.adamw(w, g, m, v, **{**SETTINGS, "weight_decay": 0.0}, step=1)
    np.testing.assert_allclose(w, [-0.01, 0.01, 0.0], rtol=2e-5)


def test_zero_gradient_only_decays():
    w, zero = np.ones(5, np.float32), np.zeros(5, np.float32)
    m, v = zero.copy(), zero.copy()
    ops.adamw(w, zero, m, v, **SETTINGS, step=1)
    np.testing.assert_allclose(w, 1 - 1e-2 * 0.05, rtol=1e-7)
    np.testing.assert_array_equal(m, zero)


def test_bits_do_not_depend_on_threads_or_place(isa, rng):
    n = 200_003
    start = state(rng, n)
    results = []
    for threads in (1, 2, 5):
        engine.set_num_threads(threads)
        w, g, m, v = (a.copy() for a in start)
        ops.adamw(w, g, m, v, **SETTINGS, step=3)
        results.append((w, m, v))
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(a, b)
    for first, last in ((0, 1), (7, 12), (n - 5, n), (31, 64)):
        w, g, m, v = (a[first:last].copy() for a in start)
        ops.adamw(w, g, m, v, **SETTINGS, step=3)
        for a, b in zip((w, m, v), results[0], strict=True):
            np.testing.assert_array_equal(a, b[first:last])


def test_nothing_to_update():
    empty = np.zeros(0, np.float32)
    ops.adamw(empty, empty, empty, empty, **SETTINGS, step=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0}, "step is 0"),
        ({"lr": -1.0}, "learning rate is -1"),
        ({"lr": float("nan")}, "learning rate is nan"),
        ({"beta1": 1.0}, "beta1 is 1"),
        ({"beta2": -0.5}, "beta2 is -0.5"),
        ({"eps": 0.0}, "eps is 0"),
        ({"weight_decay": -0.1}, "weight decay is -0.1"),
        ({"grad_scale": float("nan")}, "grad_scale"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    w, g, m, v = (np.ones(2, np.float32) for _ in range(4))
    with pytest.raises(ValueError, match=message):
        ops.adamw(w, g, m, v, **{**SETTINGS, "step": 1, **change})
    np.testing.assert_array_equal(w, 1)
