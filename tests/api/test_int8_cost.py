"""What int8 costs, as `Encoder.int8_cost` measures it; estimators refuse to train in it."""

from __future__ import annotations

import numpy as np
import pytest

from comparison import relative_error
from moltide import AssayRegressor, ConfigError
from moltide.random_init import esm2_config, random_encoder

SEQUENCES = ["MKTAYIAKQRQISFVKSHFSRQ", "GSHM" * 12, "W"]
ALL = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down")


def test_estimators_refuse_to_train():
    encoder = random_encoder(esm2_config(2, 32, 2), 0, "int8")
    for backbone, dtype in ((encoder, "auto"), ("protein-mini", "int8")):
        with pytest.raises(ConfigError, match="dtype 'int8' is for inference; train in 'float32'"):
            AssayRegressor(backbone, dtype=dtype).fit(SEQUENCES, np.arange(3.0))


def test_the_cost_is_measured_on_the_first_sequences():
    encoder = random_encoder(esm2_config(2, 32, 2), 0, "int8", 0.1)
    cost = encoder.int8_cost(SEQUENCES)
    assert (cost.sequences, cost.residues) == (3, sum(map(len, SEQUENCES)))
    exact = random_encoder(esm2_config(2, 32, 2), 0, "float32", 0.1)
    a, b = (np.concatenate(e.embed(SEQUENCES, None)) for e in (encoder, exact))
    assert cost.relative_error == pytest.approx(relative_error(a, b), rel=1e-5)
    assert 0.99 < cost.cosine < 1
    assert 0 < cost.log_probability < 0.1
    assert cost.said().startswith("int8 against float32, on 71 residues of 3 sequences: ")
    # At most 8 sequences, at most 1,000 residues, and text that is no residue is no error.
    assert encoder.int8_cost(["MK"] * 20).sequences == 8
    assert encoder.int8_cost(["MK" * 400, "", "AC" * 400, "W"]).residues == 1000
    assert encoder.int8_cost("M1K").sequences == 1
    with pytest.raises(ConfigError, match="no sequence with a residue"):
        encoder.int8_cost([])
    with pytest.raises(ConfigError, match="computes in float32"):
        exact.int8_cost(SEQUENCES)


def test_the_cost_is_measured_with_the_adapter():
    encoder = random_encoder(esm2_config(2, 32, 2), 0, "int8", 0.1)
    plain = encoder.int8_cost(SEQUENCES)
    encoder.add_adapter("a", 4, targets=ALL)
    rng = np.random.default_rng(2)
    for name, shape in encoder.model.parameters():
        if name.endswith("lora_b"):
            encoder.model.set_parameter(name, rng.normal(0, 0.2, shape).astype(np.float32))
    assert encoder.int8_cost(SEQUENCES) == plain
    adapted = encoder.int8_cost(SEQUENCES, "a")
    assert adapted != plain
    assert adapted.relative_error < 0.05
