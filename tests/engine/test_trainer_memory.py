"""What a training step holds in memory, what it plans to, and that sharing it changes no bit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from tiny_training import HEADS, LENGTHS, RECOMPUTE, config_of, make_model, targets_of, tokens_of

from moltide import _engine
from moltide.random_init import esm2_config, random_encoder


def test_memory_plan_counts_and_recomputation_saves():
    model = make_model(head=HEADS["mse"])
    plans = []
    for recompute in RECOMPUTE:
        trainer = _engine.Trainer(model, config_of(objective="mse", recompute=recompute))
        plans.append(trainer.plan_memory([300] * 8))
        del trainer
    trained = sum(int(np.prod(s)) for n, s in model.parameters() if not n.startswith("contact"))
    assert plans[0]["gradients"] >= 4 * (trained - 3000)
    assert plans[0]["optimizer"] == 2 * plans[0]["gradients"]
    none, mlp, blocks = (plan["activations"] for plan in plans)
    assert mlp < 0.85 * none
    assert blocks < 0.7 * none
    assert plans[0]["total"] == sum(
        plans[0][k] for k in ("weights", "packed_weights", "gradients", "optimizer", "activations")
    )


def kept_bytes(dtype, width, heads, before_activation):
    """Bytes a token that a layer keeps: queries, keys, values and attention's output, what goes
    into the activation; the residual stream twice and statistics in float32."""
    size = 4 if dtype == "float32" else 2
    return size * (4 * width + before_activation) + 4 * (2 * width + heads + 4)


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("mode", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_a_layer_keeps_what_is_dear_to_compute_again(dtype, mode, activation):
    width, heads, ffn, rank, tokens = 32, 4, 64, 4, 2048
    plans = []
    for layers in (3, 4):
        config = {**esm2_config(layers, width, heads, ffn), "activation": activation}
        model = _engine.Model(config, dtype)
        model.set_head(HEADS["mse"], 5)
        model.add_adapter("a", rank, 8.0, 0.0, ["attn.q", "mlp.up", "mlp.down"], 3)
        trainer = _engine.Trainer(model, config_of(mode=mode, adapter="a", objective="mse"))
        plans.append(trainer.plan_memory([256] * 8, micro_batches=2)["activations"])
    kept = kept_bytes(dtype, width, heads, 2 * ffn if activation == "swiglu" else ffn)
    if mode == "lora":
        kept += (4 if dtype == "float32" else 2) * 7 * rank
    assert plans[1] - plans[0] == tokens * kept


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_recomputed_mlps_keep_nothing(dtype, activation):
    width, heads, ffn, tokens = 32, 4, 64, 2048
    plans = []
    for layers in (3, 4):
        config = {**esm2_config(layers, width, heads, ffn), "activation": activation}
        model = _engine.Model(config, dtype)
        model.set_head(HEADS["mse"], 5)
        trainer = _engine.Trainer(model, config_of(objective="mse", recompute="mlp"))
        plans.append(trainer.plan_memory([256] * 8, micro_batches=2)["activations"])
    assert plans[1] - plans[0] == tokens * kept_bytes(dtype, width, heads, 0)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_gradients_take_the_place_of_activations(dtype):
    width, heads, ffn = 64, 4, 256
    # A layer's activations outweigh its gradients, or the other way round.
    for lengths in ([256] * 8, [16]):
        one, several = [], []
        for layers in (3, 4):
            model = _engine.Model(esm2_config(layers, width, heads, ffn), dtype)
            model.set_head(HEADS["mse"], 5)
            trainer = _engine.Trainer(model, config_of(objective="mse"))
            one.append(trainer.plan_memory(lengths))
            several.append(trainer.plan_memory(lengths, micro_batches=2))
            assert one[-1]["gradients"] == several[-1]["gradients"]
        activations = sum(lengths) * kept_bytes(dtype, width, heads, ffn)
        gradients = one[1]["gradients"] - one[0]["gradients"]
        # Another layer adds the larger of the two to the step's memory.
        grown = one[1]["activations"] - one[0]["activations"]
        assert grown == max(0, activations - gradients)
        # Where nothing is shared it adds both. What is shared: of all layers but a half.
        assert several[1]["activations"] - several[0]["activations"] == activations
        saved = several[1]["activations"] - one[1]["activations"]
        assert saved >= 3 * min(activations, gradients)


@pytest.mark.parametrize(
    ("mode", "objective", "recompute"),
    [
        ("full", "mse", "none"),
        ("full", "mse", "mlp"),
        ("full", "mlm", "none"),
        ("full", "mlm", "mlp"),
        ("full", "mlm", "blocks"),
        ("full", "joint", "none"),
        ("full", "joint", "blocks"),
        ("lora", "mse", "none"),
        ("lora", "mse", "mlp"),
    ],
)
def test_steps_of_changing_size_are_those_of_fresh_trainers(isa, mode, objective, recompute):
    joint = objective == "joint"

    def fresh(state=None):
        model = make_model("bf16", HEADS["mse"], hidden_dropout=0.1)
        model.add_adapter("a", 4, 8.0, 0.1, ["attn.q", "mlp.up", "mlp.down"], 3)
        trainer = _engine.Trainer(
            model,
            config_of(
                mode=mode, adapter="a", objective="mlm" if joint else objective, seed=4,
                recompute=recompute, head_weight=0.5 if joint else 0.0,
                max_tokens=45, mlm_residues=list(range(4, 24)), mlm_probability=0.4,
            ),
        )  # fmt: skip
        tokens, offsets = tokens_of()
        targets = None if objective == "mlm" else targets_of("mse", len(LENGTHS))
        trainer.set_dataset(tokens, offsets, targets)
        if state is not None:
            trainer.load_state(state)
        return model, trainer

    _, used = fresh()
    state = used.state()
    # 9, 3, 14, 5 and 32 tokens: one micro-batch, several, larger and smaller ones.
    for rows in ([1], [0, 1, 2, 3], [4, 2, 0], [3], [0, 1, 2, 3, 4], [0, 1, 4], [1, 3], [2, 0]):
        model, trainer = fresh(state)
        assert trainer.step(np.array(rows)) == used.step(np.array(rows))
        state = trainer.state()
        for name, values in used.state().items():
            np.testing.assert_array_equal(values, state[name], err_msg=f"{name} after {rows}")
        del trainer, model


def test_what_cannot_fit_is_refused_with_numbers():
    from moltide.errors import MemoryPlanError

    model = make_model(head={"pool": "mean", "outputs": 1})
    trainer = _engine.Trainer(model, config_of(objective="mse", max_tokens=10**9))
    tokens, offsets = tokens_of([1_000_000] * 60)
    trainer.set_dataset(tokens, offsets, np.zeros((60, 1), dtype=np.float32))
    with pytest.raises(MemoryPlanError, match=r"needs \d+ MiB.*are free; lower max_tokens"):
        trainer.step(np.arange(60))


LOADED = """
import sys
import numpy as np
import moltide as mt
from moltide import _engine

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))

mt.set_num_threads(1)
encoder = mt.load(sys.argv[1], dtype="float32")
encoder.set_head({"pool": "mean", "outputs": 1})
before = resident()
trainer = _engine.Trainer(encoder.model, {"mode": "full", "objective": "mse", "lr": 1e-4})
held = resident()
"""
STEP = """
tokens = np.full(512, 5, dtype=np.int32)
trainer.set_dataset(tokens, np.array([0, 256, 512]), np.zeros((2, 1), dtype=np.float32))
trainer.step(np.arange(2))
print(resident() - held, trainer.plan_memory([256] * 2)["activations"])
"""


def output(script, folder):
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_training_all_weights_drops_the_copies_that_loading_packed(tmp_path):
    random_encoder(esm2_config(4, 512, 8, 2048), 0).save(tmp_path)
    taken = int(output(LOADED + "print(held - before)", tmp_path))
    matrices = 4 * 12 * 4 * 512**2  # bytes
    # Gradients and two moments; the values take the packed copies' place.
    assert taken < 3.5 * matrices


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_step_takes_the_memory_that_was_planned(tmp_path):
    width = 384
    random_encoder(esm2_config(8, width, 6, 4 * width), 0).save(tmp_path)
    taken, planned = map(int, output(LOADED + STEP, tmp_path).split())
    # Packed operands of a product come on top.
    scratch = 4 * 512 * 2 * 4 * width + 4 * 4 * width**2
    assert planned / 2 < taken < planned + 2 * scratch
    # Far below what the layers keep.
    assert taken < 0.6 * 8 * 512 * kept_bytes("float32", width, 6, 4 * width)
