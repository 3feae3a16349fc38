"""RoBERTa, ESM C, RNA-FM and RiNALMo: values and every parameter's gradient against torch."""

from __future__ import annotations

import numpy as np
import pytest
from published_encoders import (
    LAYERS,
    VOCAB,
    Published,
    packed,
    padded,
    sequences,
    torch,
)

from comparison import relative_error
from moltide import _engine
from reference.philox import uniform

KINDS = ("roberta", "esmc", "rna_fm", "rinalmo")
TARGETS = np.array([[0.3, 1.0], [-1.0, 0.2], [2.0, -0.4], [0.7, 0.1]], dtype=np.float32)


@pytest.fixture(scope="module", params=KINDS)
def published(request):
    return Published(request.param)


def rows_of(states, mask):
    return states.detach()[mask == 1].numpy()


def masked_sequences():
    """Some residues are <mask>, for the kinds whose embedding looks at them."""
    parts = sequences()
    for part in parts:
        part[2::7] = 32
    return parts


def worst(ours, exact):
    """The largest error of any entry, relative to the largest entry."""
    return np.abs(ours - exact).max() / (np.abs(exact).max() + 1e-12)


def test_values_float32(published, isa):
    parts = masked_sequences()
    ids, mask = padded(parts)
    model = published.engine_model()
    hidden = model.hidden(*packed(parts), all_layers=True)
    exact = published.hidden(ids, mask)
    assert hidden.shape[0] == LAYERS + 1 == len(exact)
    for layer, states in enumerate(exact):
        assert worst(hidden[layer], rows_of(states, mask)) <= 1e-4, f"layer {layer}"
    logits = rows_of(published.logits(exact[-1]), mask)
    assert worst(model.logits(*packed(parts)), logits) <= 1e-4


@pytest.mark.parametrize(("dtype", "allowed"), [("bf16", 3e-2), ("int8", 0.12)])
def test_values_of_few_bits(published, isa, dtype, allowed):
    parts = masked_sequences()
    ids, mask = padded(parts)
    exact = published.hidden(ids, mask)[-1]
    model = published.engine_model(dtype)
    # Rounding must show, and show no more than it should.
    error = relative_error(model.hidden(*packed(parts)), rows_of(exact, mask))
    assert 1e-4 < error < allowed
    logits = rows_of(published.logits(exact), mask)
    assert relative_error(model.logits(*packed(parts)), logits) < allowed


def assert_gradients(published, ours, allowed=1e-4):
    """Every trained parameter of the encoder; `ours` by canonical name. A single number's size says
    little: it is held against those of all layers."""
    rotary = published.config()["position"] == "rotary"
    exact = {n: p.grad for n, p in published.torch_model.named_parameters()}
    seen = [name for name in ours if not name.startswith("head.")]
    assert len(seen) > 10 * LAYERS
    for name in seen:
        want = exact[published.published(name)].numpy().reshape(ours[name].shape)
        if name.endswith("attn.k.bias") and not rotary:
            # It moves all scores of a query alike, which the softmax does not see.
            beside = np.abs(ours[name.replace("k.bias", "q.bias")]).max()
            assert np.abs(ours[name]).max() <= allowed * beside, name
            continue
        size = np.abs(want).max()
        assert size > 0, name
        if want.size == 1:
            others = (exact[n] for n in exact if n.split(".")[-2:] == name.split(".")[-2:])
            size = max(g.abs().item() for g in others)
        error = np.abs(ours[name] - want).max() / size
        assert error <= allowed, f"{name}: {error:.2e}"


def dataset(parts):
    tokens, cu = packed(parts)
    return tokens, cu.astype(np.int64)


@pytest.mark.parametrize("recompute", ["none", "mlp", "blocks"])
def test_masked_lm_gradients(published, recompute):
    parts = sequences(3)
    seed, probability, residues = 5, 0.4, list(range(4, 24))
    trainer = _engine.Trainer(
        published.engine_model(),
        {"objective": "mlm", "seed": seed, "mlm_probability": probability, "mlm_mask": 1.0,
         "mlm_random": 0.0, "mlm_residues": residues, "recompute": recompute},
    )  # fmt: skip
    tokens, offsets = dataset(parts)
    trainer.set_dataset(tokens, offsets)
    loss, ours = trainer.gradients(np.arange(len(parts)))

    stream = 17  # step 0, micro-batch 0, layer 0, RandomSite::masking
    draws = uniform(seed, stream, np.arange(len(tokens)), 4)[:, 0]
    chosen = np.isin(tokens, residues) & (draws < probability)
    assert 5 < chosen.sum() < len(tokens) - 5
    ids, mask = padded(np.split(np.where(chosen, 32, tokens), offsets[1:-1]))
    labels, _ = padded(np.split(np.where(chosen, tokens, -100), offsets[1:-1]))
    labels[mask == 0] = -100
    logits = published.logits(published.hidden(ids, mask)[-1])
    exact = torch.nn.functional.cross_entropy(logits.view(-1, VOCAB), labels.view(-1))
    published.torch_model.zero_grad()
    exact.backward()
    assert loss == pytest.approx(float(exact.detach()), rel=1e-5)
    assert_gradients(published, ours)


def first_token_loss(published, parts, head):
    """The classification head of RoBERTa and ESM C: <s> -> dense -> tanh -> out; its MSE."""
    ids, mask = padded(parts)
    y = published.hidden(ids, mask)[-1][:, 0]
    w = {name: torch.from_numpy(values).double() for name, values in head.items()}
    h = torch.tanh(y @ w["head.dense.weight"].T + w["head.dense.bias"])
    out = h @ w["head.out.weight"].T + w["head.out.bias"]
    return ((out - torch.from_numpy(TARGETS).double()) ** 2).mean()


def with_head(model, seed=0):
    model.set_head({"pool": "cls", "hidden": model.config["width"], "outputs": 2}, seed)
    rng = np.random.default_rng(seed)
    head = {}
    for name, shape in model.parameters():
        if name.startswith("head."):
            head[name] = rng.normal(0, 0.2, shape).astype(np.float32)
            model.set_parameter(name, head[name])
    return head


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_head_gradients(published, dtype):
    parts = sequences(3)
    model = published.engine_model(dtype)
    head = with_head(model)
    trainer = _engine.Trainer(model, {"objective": "mse"})
    trainer.set_dataset(*dataset(parts), TARGETS)
    loss, ours = trainer.gradients(np.arange(len(parts)))
    exact = first_token_loss(published, parts, head)
    published.torch_model.zero_grad()
    exact.backward()
    # bf16 keeps eight bits; its errors against a peer's: test_transformers_gradients.py.
    if dtype == "float32":
        assert loss == pytest.approx(float(exact.detach()), rel=1e-5)
    assert_gradients(published, ours, allowed=1e-4 if dtype == "float32" else 0.15)


@pytest.mark.parametrize("recompute", ["none", "mlp", "blocks"])
def test_lora_gradients(published, recompute):
    """Those of A and B follow from the gradient of W + s B A, which torch gives."""
    parts = sequences(3)
    model = published.engine_model()
    head = with_head(model)
    targets = ["attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down"]
    if model.config["activation"] == "swiglu":
        targets.append("mlp.gate")
    rank, scale = 3, 2.0
    model.add_adapter("a", rank, rank * scale, 0.0, targets, 1)
    rng = np.random.default_rng(0)
    for name, shape in model.parameters():
        if name.endswith("lora_b"):
            model.set_parameter(name, rng.normal(0, 0.1, shape).astype(np.float32))
    trainer = _engine.Trainer(
        model, {"mode": "lora", "adapter": "a", "objective": "mse", "recompute": recompute}
    )
    trainer.set_dataset(*dataset(parts), TARGETS)
    loss, ours = trainer.gradients(np.arange(len(parts)))

    pairs = {}
    weights = dict(published.torch_model.named_parameters())
    for layer in range(LAYERS):
        for target in targets:
            at = f"adapters.a.layers.{layer}.{target}."
            a, b = (
                torch.from_numpy(model.get_parameter(at + end)).double()
                for end in ("lora_a", "lora_b")
            )
            weight = weights[published.published(f"layers.{layer}.{target}.weight")]
            pairs[at] = (a, b, weight)
    with torch.no_grad():
        for a, b, weight in pairs.values():
            weight += scale * b @ a
    try:
        exact = first_token_loss(published, parts, head)
        published.torch_model.zero_grad()
        exact.backward()
    finally:
        with torch.no_grad():
            for a, b, weight in pairs.values():
                weight -= scale * b @ a
    assert loss == pytest.approx(float(exact.detach()), rel=1e-5)
    for at, (a, b, weight) in pairs.items():
        assert worst(ours[at + "lora_a"], (scale * b.T @ weight.grad).numpy()) <= 1e-4, at
        assert worst(ours[at + "lora_b"], (scale * weight.grad @ a.T).numpy()) <= 1e-4, at
