"""What the tests of attention share: its inputs, a run of it, and what its reference says."""

from __future__ import annotations

import numpy as np

import moltide._engine as engine
from comparison import representable
from reference import attention as reference
from tolerances import TOLERANCES

ops = engine.ops
# avx512_vnni has no attention of its own.
ISAS = [i for i in engine.available_isas() if i != "avx512_vnni"]
# Those with instructions, hence kernels, for bf16.
BF16_ISAS = ("avx512_bf16", "amx")
DTYPES = ["float32", "bf16"]
RAGGED = [1, 0, 5, 200, 17, 64, 65, 3, 0, 129]
NAMES = ["q", "k", "v", "dout"]


def offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def inputs(rng, tokens, width, dtype="float32", size=1.0):
    return [representable(size * rng.standard_normal((tokens, width)), dtype) for _ in NAMES]


def run(q, k, v, dout, cu, heads, scale, **options):
    """o, lse, dq, dk, dv."""
    o, lse = ops.attention_fwd(q, k, v, cu, heads, scale, **options)
    return o, lse, *ops.attention_bwd(dout, q, k, v, o, lse, cu, heads, scale, **options)


def expect(q, k, v, dout, cu, heads, scale, **options):
    forward = reference.forward(q, k, v, cu, heads, scale, **options)
    return *forward, *reference.backward(dout, q, k, v, cu, heads, scale, **options)


def close(actual, wanted, dtype, size=1.0):
    relative, absolute = TOLERANCES["attention"][dtype]
    for name, a, w in zip(["o", "lse", "dq", "dk", "dv"], actual, wanted, strict=True):
        np.testing.assert_allclose(a, w, relative, absolute * size, err_msg=name)


def assert_nan_stays_in_its_sequence_and_head(rng, dtype):
    q, k, v, dout = inputs(rng, 60, 32, dtype)
    k[25, 3] = np.nan  # second sequence, head 0
    o, lse, dq, dk, dv = run(q, k, v, dout, offsets([20, 30, 10]), 2, 0.25, dtype=dtype)
    assert np.isnan(o[20:50, :16]).all()
    assert np.isnan(lse[0, 20:50]).all()
    for x in (o, dq, dk, dv):
        assert np.isnan(x[20:50, :16]).any()
        assert not np.isnan(np.delete(x, slice(20, 50), axis=0)).any()
        assert not np.isnan(x[:, 16:]).any()
