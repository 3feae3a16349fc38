"""
Single operations, for tests.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

__all__: list[str] = [
    "accumulate",
    "activation_bwd",
    "activation_fwd",
    "adamw",
    "attention_bwd",
    "attention_fwd",
    "attention_pair_bias_bwd",
    "attention_pair_bias_fwd",
    "attention_pair_bias_probs",
    "attention_probs",
    "bce",
    "clip_scale",
    "contact_accumulate",
    "contact_sigmoid",
    "copy_cast",
    "cross_entropy",
    "draw_orthogonal_features",
    "dropout",
    "embedding_bwd",
    "embedding_fwd",
    "embedding_sum_bwd",
    "embedding_sum_fwd",
    "gate_bwd",
    "gate_fwd",
    "gather_rows",
    "gaussian_basis_bwd",
    "gaussian_basis_fwd",
    "huber",
    "label_weight",
    "layernorm_bwd",
    "layernorm_fwd",
    "layernorm_quantize",
    "linear_attention_bwd",
    "linear_attention_fwd",
    "linear_attention_probs",
    "log_normal_cdf",
    "loss_weight",
    "matmul",
    "matmul_dw",
    "matmul_i8",
    "matmul_i8_peak",
    "matmul_peak_flops",
    "mixed",
    "mse",
    "pair_distance",
    "pairs_to_planes",
    "planes_to_pairs",
    "pool_bwd",
    "pool_fwd",
    "quantize",
    "ranking",
    "residual_add",
    "rmsnorm_bwd",
    "rmsnorm_fwd",
    "rope",
    "rope_table",
    "sum_squares",
    "swiglu_bwd_beta",
    "target_count",
    "time_attention",
    "time_linear_attention",
    "time_matmul",
    "time_matmul_i8",
    "tobit",
    "token_dropout_scale",
    "triangle_product_bwd",
    "triangle_product_fwd",
]

def accumulate(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    y: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    source: str = "float32",
    destination: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def activation_bwd(
    activation: str,
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    u: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    in_place: bool = False,
    beta: typing.SupportsFloat | typing.SupportsIndex | None = None,
) -> numpy.typing.NDArray[numpy.float32]: ...
def activation_fwd(
    activation: str,
    u: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    beta: typing.SupportsFloat | typing.SupportsIndex | None = None,
) -> numpy.typing.NDArray[numpy.float32]: ...
def adamw(
    w: numpy.typing.NDArray[numpy.float32],
    g: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    m: numpy.typing.NDArray[numpy.float32],
    v: numpy.typing.NDArray[numpy.float32],
    lr: typing.SupportsFloat | typing.SupportsIndex,
    beta1: typing.SupportsFloat | typing.SupportsIndex,
    beta2: typing.SupportsFloat | typing.SupportsIndex,
    eps: typing.SupportsFloat | typing.SupportsIndex,
    weight_decay: typing.SupportsFloat | typing.SupportsIndex,
    step: typing.SupportsInt | typing.SupportsIndex,
    grad_scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> None:
    """
    In place on w, m and v.
    """

def attention_bwd(
    dout: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    o: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    lse: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    seed: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    dtype: str = "float32",
    padding: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    -> dq, dk, dv (T, H*D)
    """

def attention_fwd(
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    seed: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    dtype: str = "float32",
    padding: typing.SupportsInt | typing.SupportsIndex = 0,
    coarse: bool = False,
) -> tuple:
    """
    q, k, v (T, H*D) -> o (T, H*D), lse (H, T), or (0, T) if coarse
    """

def attention_pair_bias_bwd(
    dout: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    scores: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    statistics: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dscores: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    pair_starts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    heads: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    seed: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    -> dq, dk, dv (T, H*D), gradient of the bias (planes)
    """

def attention_pair_bias_fwd(
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    pair_starts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    heads: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dropout: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    seed: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    in_place: bool = False,
) -> tuple:
    """
    q, k, v (T, H*D), bias (planes) -> o (T, H*D), scores (planes), statistics (2, H, T)
    """

def attention_pair_bias_probs(
    scores: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
) -> numpy.typing.NDArray[numpy.float32]:
    """
    scores (H, keys, queries) -> probabilities (H, queries, keys)
    """

def attention_probs(
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dtype: str = "float32",
    padding: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    q, k (L, H*D) -> probabilities (H, L, L)
    """

def bce(
    logits: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32]]: ...
def clip_scale(
    total: typing.SupportsFloat | typing.SupportsIndex,
    max_norm: typing.SupportsFloat | typing.SupportsIndex,
) -> float: ...
def contact_accumulate(
    probs: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    skip_first: typing.SupportsInt | typing.SupportsIndex,
    skip_last: typing.SupportsInt | typing.SupportsIndex,
    logits: numpy.typing.NDArray[numpy.float32],
) -> None:
    """
    logits (l, l) += the channels of one layer's probs (H, L, L), in place
    """

def contact_sigmoid(
    logits: numpy.typing.NDArray[numpy.float32], bias: typing.SupportsFloat | typing.SupportsIndex
) -> None:
    """
    logits = sigmoid(logits + bias), in place
    """

def copy_cast(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    source: str = "float32",
    destination: str = "bf16",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def cross_entropy(
    logits: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    label: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
) -> tuple: ...
def draw_orthogonal_features(
    seed: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
    head_dim: typing.SupportsInt | typing.SupportsIndex,
    features: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    -> w (D, M)
    """

def dropout(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    p: typing.SupportsFloat | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    in_place: bool = False,
) -> numpy.typing.NDArray[numpy.float32]: ...
def embedding_bwd(
    tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    dx: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtable: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dpositions: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    position: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
    position_offset: typing.SupportsInt | typing.SupportsIndex = 0,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    (dtable, dpositions), each added to what is given for it
    """

def embedding_fwd(
    tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    table: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    positions: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    position: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
    position_offset: typing.SupportsInt | typing.SupportsIndex = 0,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def embedding_sum_bwd(
    ids: typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
    scale: typing.SupportsFloat | typing.SupportsIndex,
    dx: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtable: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    dtable (V, C) and what dx (N, C) adds to it
    """

def embedding_sum_fwd(
    ids: typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
    scale: typing.SupportsFloat | typing.SupportsIndex,
    table: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    x (N, C) and what ids (N, F) add to it
    """

def gate_bwd(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    g: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    kind: str = "sigmoid",
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    -> dx, dg (N, C)
    """

def gate_fwd(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    g: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    kind: str = "sigmoid",
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    x (N, C), g (N, C) or one row for all -> (N, C)
    """

def gather_rows(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    row: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def gaussian_basis_bwd(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    distances: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    edges: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    mul: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    means: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    stds: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dmul: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dbias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dmeans: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dstds: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    -> the gradients given, with what this adds to them
    """

def gaussian_basis_fwd(
    distances: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    edges: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    mul: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    means: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    stds: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    distances, edges (P) -> (P, K)
    """

def huber(
    pred: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    delta: typing.SupportsFloat | typing.SupportsIndex,
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32]]: ...
def label_weight(
    label: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
) -> float: ...
def layernorm_bwd(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    mean: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    rstd: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dx: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dw: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    db: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    in_place: bool = False,
    x_dtype: str = "float32",
) -> tuple:
    """
    (dx, dw, db), each added to what is given for it
    """

def layernorm_fwd(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    b: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
    eps: typing.SupportsFloat | typing.SupportsIndex,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    x_dtype: str = "float32",
    in_place: bool = False,
) -> tuple:
    """
    (y, mean, rstd); b may be None
    """

def layernorm_quantize(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    b: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    eps: typing.SupportsFloat | typing.SupportsIndex = 9.999999747378752e-06,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    (codes, scale)
    """

def linear_attention_bwd(
    dout: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    eps: typing.SupportsFloat | typing.SupportsIndex = 9.999999974752427e-07,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    -> dq, dk, dv (T, H*D)
    """

def linear_attention_fwd(
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    v: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    eps: typing.SupportsFloat | typing.SupportsIndex = 9.999999974752427e-07,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    q, k, v (T, H*D), w (D, M) -> o (T, H*D)
    """

def linear_attention_probs(
    q: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    k: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    eps: typing.SupportsFloat | typing.SupportsIndex = 9.999999974752427e-07,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    q, k (L, H*D) -> weights (H, L, L)
    """

def log_normal_cdf(z: typing.SupportsFloat | typing.SupportsIndex) -> tuple[float, float]: ...
def loss_weight(
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
) -> float: ...
def matmul(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    y: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    epilogue: str = "store",
    transpose: bool = False,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    out_dtype: str = "float32",
    want_pre: bool = False,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    pack_isa: str = "",
) -> typing.Any: ...
def matmul_dw(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dw: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    db: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple: ...
def matmul_i8(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.int8],
    x_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    y: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    epilogue: str = "store",
    out_dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> typing.Any:
    """
    y, or (codes, scale) of the epilogue gelu_quantize
    """

def matmul_i8_peak() -> float: ...
def matmul_peak_flops(dtype: str = "float32") -> float: ...
def mixed(
    pred: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    censor: typing.Annotated[numpy.typing.ArrayLike, numpy.int8] | None,
    column: collections.abc.Sequence[str],
    huber_delta: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    log_sigma: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32], float]:
    """
    (sum, gradient, gradient of log_sigma, what the terms weigh); weight (n, k)
    """

def mse(
    pred: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32]]: ...
def pair_distance(
    coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    pair_starts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    vocabulary: typing.SupportsInt | typing.SupportsIndex,
    first: typing.SupportsInt | typing.SupportsIndex,
    count: typing.SupportsInt | typing.SupportsIndex,
) -> tuple:
    """
    -> distances (N) float32, edge types (N) int32
    """

def pairs_to_planes(
    rows: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    first: typing.SupportsInt | typing.SupportsIndex,
    pair_starts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    planes: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    rows (N, H) into the planes of all sequences
    """

def planes_to_pairs(
    planes: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    first: typing.SupportsInt | typing.SupportsIndex,
    count: typing.SupportsInt | typing.SupportsIndex,
    heads: typing.SupportsInt | typing.SupportsIndex,
    pair_starts: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    planes -> rows (N, H)
    """

def pool_bwd(
    pool: str,
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    skip_first: typing.SupportsInt | typing.SupportsIndex = 1,
    skip_last: typing.SupportsInt | typing.SupportsIndex = 1,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def pool_fwd(
    pool: str,
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    skip_first: typing.SupportsInt | typing.SupportsIndex = 1,
    skip_last: typing.SupportsInt | typing.SupportsIndex = 1,
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def quantize(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    (codes, scale)
    """

def ranking(
    pred: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    censor: typing.Annotated[numpy.typing.ArrayLike, numpy.int8] | None = None,
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32], int, float]:
    """
    (sum, gradient, number of pairs, sum of the pairs' weights)
    """

def residual_add(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    branch: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def rmsnorm_bwd(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    rstd: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dx: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dw: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
    in_place: bool = False,
) -> tuple:
    """
    (dx, dw), each added to what is given for it
    """

def rmsnorm_fwd(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    w: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    eps: typing.SupportsFloat | typing.SupportsIndex,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple:
    """
    (y, rstd)
    """

def rope(
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    position: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    heads: typing.SupportsInt | typing.SupportsIndex,
    cos: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    sin: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    inverse: bool = False,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.float32]: ...
def rope_table(
    max_len: typing.SupportsInt | typing.SupportsIndex,
    head_dim: typing.SupportsInt | typing.SupportsIndex,
    base: typing.SupportsFloat | typing.SupportsIndex,
) -> tuple:
    """
    (cos, sin)
    """

def sum_squares(g: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]) -> float: ...
def swiglu_bwd_beta(
    dy: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    u: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    beta: typing.SupportsFloat | typing.SupportsIndex,
    dbeta: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    dtype: str = "float32",
    pad: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float:
    """
    Gradient of swiglu's beta, added to dbeta
    """

def target_count(target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]) -> int: ...
def time_attention(
    tokens: typing.SupportsInt | typing.SupportsIndex,
    length: typing.SupportsInt | typing.SupportsIndex,
    heads: typing.SupportsInt | typing.SupportsIndex,
    head_dim: typing.SupportsInt | typing.SupportsIndex,
    dtype: str,
    backward: bool,
    seconds: typing.SupportsFloat | typing.SupportsIndex,
) -> float:
    """
    the same of softmax attention
    """

def time_linear_attention(
    tokens: typing.SupportsInt | typing.SupportsIndex,
    length: typing.SupportsInt | typing.SupportsIndex,
    heads: typing.SupportsInt | typing.SupportsIndex,
    head_dim: typing.SupportsInt | typing.SupportsIndex,
    features: typing.SupportsInt | typing.SupportsIndex,
    dtype: str,
    backward: bool,
    seconds: typing.SupportsFloat | typing.SupportsIndex,
) -> float:
    """
    seconds of a call over tokens / length sequences, the best of many
    """

def time_matmul(
    m: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    dtype: str = "float32",
    what: str = "forward",
    seconds: typing.SupportsFloat | typing.SupportsIndex = 0.1,
) -> float:
    """
    Seconds of the fastest call on buffers of the engine's own.
    """

def time_matmul_i8(
    m: typing.SupportsInt | typing.SupportsIndex,
    n: typing.SupportsInt | typing.SupportsIndex,
    k: typing.SupportsInt | typing.SupportsIndex,
    what: str = "forward",
    seconds: typing.SupportsFloat | typing.SupportsIndex = 0.1,
) -> float:
    """
    Seconds of the fastest call on buffers of the engine's own.
    """

def tobit(
    pred: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    target: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    censor: typing.Annotated[numpy.typing.ArrayLike, numpy.int8] | None,
    log_sigma: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    dlog_sigma: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    scale: typing.SupportsFloat | typing.SupportsIndex = 1.0,
) -> tuple[float, numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
    """
    (sum, gradient, dlog_sigma + its gradient)
    """

def token_dropout_scale(
    tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    mask_token: typing.SupportsInt | typing.SupportsIndex,
    mask_ratio_train: typing.SupportsFloat | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.float32]: ...
def triangle_product_bwd(
    dx: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    a: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    b: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    in_place: bool = False,
) -> tuple:
    """
    -> da, db (C, L, L)
    """

def triangle_product_fwd(
    a: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
    b: typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
) -> numpy.typing.NDArray[numpy.float32]:
    """
    a, b (C, L, L) -> x (C, L, L)
    """
