// mlp_act: the feed-forward activation
//   gelu    y = u * Phi(u), Phi the normal distribution: the exact (erf) form
//   swiglu  y = silu(gate) * up, u = [gate | up] (Shazeer 2020)
//   relu    y = max(u, 0), slope 0 at 0
//   tanh    y = tanh(u)
// Shapes    u du (T, F), swiglu (T, 2F); y dy (T, F); any row stride
// Types     f32 or bf16, all of a call alike; computed in f32, rounded once
// Writes    fwd y =;  bwd du =
// Aliasing  y may be u, du may be dy (neither with swiglu)
// Repeat    bit-identical for a row whatever T is
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"
#include "mlp_act/mlp_act_params.h"

namespace moltide {

void activation_fwd(Activation activation, const Tensor& u, const Tensor& y);
void activation_bwd(Activation activation, const Tensor& dy, const Tensor& u, const Tensor& du);

}  // namespace moltide
