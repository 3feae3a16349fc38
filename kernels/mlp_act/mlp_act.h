// mlp_act: the feed-forward activation
//   gelu    y = u * Phi(u), Phi the normal distribution: the exact (erf) form
//   swiglu  y = gate * sigmoid(beta * gate) * up, u = [gate | up] (Shazeer 2020), beta 1 or given
//   relu    y = max(u, 0), slope 0 at 0
//   tanh    y = tanh(u)
// Shapes    u du (T, F), swiglu (T, 2F); y dy (T, F); any row stride
// Types     f32 or bf16, all of a call alike; computed in f32, rounded once
//           beta one f32 (null: 1)
// Writes    fwd y =;  bwd du =;  bwd_beta dbeta +=
// Aliasing  y may be u, du may be dy (neither with swiglu)
// Workspace swiglu_bwd_beta rows, T f32
// Repeat    bit-identical for a row whatever T is; dbeta sums over T in one order
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"
#include "mlp_act/mlp_act_params.h"

namespace moltide {

void activation_fwd(Activation activation, const Tensor& u, const Tensor& y,
                    const float* beta = nullptr);
void activation_bwd(Activation activation, const Tensor& dy, const Tensor& u, const Tensor& du,
                    const float* beta = nullptr);
void swiglu_bwd_beta(const Tensor& dy, const Tensor& u, float beta, float* rows, float* dbeta);

}  // namespace moltide
