"""Every parameter's gradient against Transformers' ESM on random checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from moltide import _engine
from moltide.pretrained import load
from moltide.pretrained.esm import NAMES
from reference.philox import uniform

torch = pytest.importorskip("torch", reason="parity needs torch==2.13.0")
transformers = pytest.importorskip("transformers", reason="parity needs transformers")

LENGTHS = (5, 17, 1, 40)
TARGETS = np.array([[0.3], [-1.0], [2.0], [0.7]], dtype=np.float32)


def checkpoint(folder, kind, head_dim, seed=0, **options):
    torch.manual_seed(seed)
    config = transformers.EsmConfig(
        vocab_size=33,
        hidden_size=2 * head_dim,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=3 * head_dim,
        max_position_embeddings=128,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
        mask_token_id=32,
        initializer_range=0.15,
        attn_implementation="eager",
        **options,
    )
    model = kind(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.save_pretrained(folder)
    return model


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return [np.r_[0, rng.integers(4, 30, n), 2].astype(np.int32) for n in LENGTHS]


def padded(parts):
    ids = np.ones((len(parts), max(map(len, parts))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, part in enumerate(parts):
        ids[row, : len(part)] = part
        mask[row, : len(part)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.double().numpy() for n, p in model.named_parameters() if p.grad is not None}


def worst_errors(gradients, reference):
    """Of each parameter, the error of its worst entry, relative to its largest entry."""
    errors = {}
    for name, values in gradients.items():
        want = reference[name].reshape(values.shape)
        errors[name] = np.abs(values - want).max() / (np.abs(want).max() + 1e-12)
    assert errors
    return errors


def assert_float32(gradients, reference):
    for name, error in worst_errors(gradients, reference).items():
        assert error <= 1e-4, f"{name}: {error:.2e}"


def published(gradients, task):
    return {NAMES.published(name, "esm.", task): g for name, g in gradients.items()}


def regression(folder, head_dim, seed=0):
    """(Transformers' model, its sequences, the loss of a model of any dtype)."""
    model = checkpoint(
        folder, transformers.EsmForSequenceClassification, head_dim, seed, num_labels=1,
        problem_type="regression",
    )  # fmt: skip
    parts = sequences(seed)
    ids, mask = padded(parts)

    def loss_of(m):
        out = m(input_ids=ids, attention_mask=mask).logits.double()
        return ((out - torch.from_numpy(TARGETS).double()) ** 2).mean()

    return model, parts, loss_of


def our_regression(folder, parts, dtype):
    """(loss, gradients by published name)."""
    trainer = _engine.Trainer(load(folder, dtype=dtype).model, {"objective": "mse", "mode": "full"})
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    trainer.set_dataset(np.concatenate(parts), offsets, TARGETS)
    loss, gradients = trainer.gradients(np.arange(len(parts)))
    return loss, published(gradients, "sequence")


@pytest.mark.parametrize("head_dim", [16, 24, 32, 64, 128])
def test_regression_gradients_float32(tmp_path, head_dim):
    model, parts, loss_of = regression(tmp_path, head_dim)
    loss, ours = our_regression(tmp_path, parts, "float32")
    exact = loss_of(model.double())
    assert loss == pytest.approx(float(exact.detach()), rel=1e-5)
    assert_float32(ours, gradients_of(model, exact))


@pytest.fixture(scope="module", params=[16, 32, 64])
def draws(request, tmp_path_factory):
    """Random checkpoints and sequences: (folder, sequences, exact gradients, the peer's errors)."""
    found = []
    for seed in range(4):
        folder = tmp_path_factory.mktemp("draw")
        model, parts, loss_of = regression(folder, request.param, seed)
        exact = gradients_of(model.double(), loss_of(model))
        peer = gradients_of(model.to(torch.bfloat16), loss_of(model))
        found.append((folder, parts, exact, worst_errors(peer, exact)))
    return found


def test_regression_gradients_bf16(draws, isa):
    """Within twice the peer's own error; means of draws, since one worst entry is much luck."""
    ours = [
        worst_errors(our_regression(folder, parts, "bf16")[1], exact)
        for folder, parts, exact, _ in draws
    ]
    for name in ours[0]:
        error = np.mean([errors[name] for errors in ours])
        allowed = 2 * np.mean([errors[name] for *_, errors in draws]) + 1e-3
        assert error <= allowed, f"{name}: {error:.2e}, allowed {allowed:.2e}"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head_dim", [16, 24, 64])
def test_masked_lm_gradients(tmp_path, head_dim, tied):
    model = checkpoint(
        tmp_path, transformers.EsmForMaskedLM, head_dim, tie_word_embeddings=tied
    ).double()
    encoder = load(tmp_path)
    seed, probability, residues = 5, 0.4, list(range(4, 24))
    trainer = _engine.Trainer(
        encoder.model,
        {"objective": "mlm", "seed": seed, "mlm_probability": probability, "mlm_mask": 1.0,
         "mlm_random": 0.0, "mlm_residues": residues},
    )  # fmt: skip
    parts = sequences(3)
    tokens = np.concatenate(parts)
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    trainer.set_dataset(tokens, offsets)
    loss, ours = trainer.gradients(np.arange(len(parts)))

    stream = 17  # step 0, micro-batch 0, layer 0, RandomSite::masking
    draws = uniform(seed, stream, np.arange(len(tokens)), 4)[:, 0]
    chosen = np.isin(tokens, residues) & (draws < probability)
    assert 5 < chosen.sum() < len(tokens) - 5
    labels = np.where(chosen, tokens, -100).astype(np.int64)
    corrupted = [p.copy() for p in parts]
    flat = np.where(chosen, 32, tokens)
    for row, part in enumerate(corrupted):
        part[:] = flat[offsets[row] : offsets[row + 1]]
    ids, mask = padded(corrupted)
    wanted = torch.full_like(ids, -100)
    for row, part in enumerate(parts):
        wanted[row, : len(part)] = torch.from_numpy(labels[offsets[row] : offsets[row + 1]])
    logits = model(input_ids=ids, attention_mask=mask).logits
    exact = torch.nn.functional.cross_entropy(logits.view(-1, 33), wanted.view(-1))
    assert loss == pytest.approx(float(exact.detach()), rel=1e-5)
    assert_float32(published(ours, None), gradients_of(model, exact))
