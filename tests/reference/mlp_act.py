"""Float64 feed-forward activations of u (T, F), swiglu (T, 2F) with the gate first and a slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

Array = NDArray[np.float64]


def fwd(activation: str, u: Array, beta: float = 1.0) -> Array:
    """y (T, F)."""
    u = np.asarray(u, np.float64)
    if activation == "gelu":
        return u * ndtr(u)
    if activation == "relu":
        return np.maximum(u, 0)
    if activation == "tanh":
        return np.tanh(u)
    gate, up = np.split(u, 2, axis=1)
    return gate * expit(beta * gate) * up


def bwd(activation: str, dy: Array, u: Array, beta: float = 1.0) -> Array:
    """du, the shape of u."""
    u, dy = np.asarray(u, np.float64), np.asarray(dy, np.float64)
    if activation == "gelu":
        return dy * (ndtr(u) + u * np.exp(-u * u / 2) / np.sqrt(2 * np.pi))
    if activation == "relu":
        return dy * (u > 0)
    if activation == "tanh":
        return dy / np.cosh(u) ** 2
    gate, up = np.split(u, 2, axis=1)
    s, rest = expit(beta * gate), expit(-beta * gate)
    return np.concatenate([dy * up * (s + beta * gate * s * rest), dy * gate * s], axis=1)


def swiglu_bwd_beta(dy: Array, u: Array, beta: float) -> Array:
    """(T, F), whose sum is the gradient of beta."""
    gate, up = np.split(np.asarray(u, np.float64), 2, axis=1)
    return np.asarray(dy, np.float64) * up * gate**2 * expit(beta * gate) * expit(-beta * gate)
