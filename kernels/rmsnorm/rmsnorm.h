// rmsnorm: y = x * rstd * w with rstd = 1 / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019)
// Shapes    x y dx dy (T, C), any row stride; w dw (C) f32; rstd (T) f32
// Types     x dx f32 (the residual stream); y dy f32 or bf16
// Writes    fwd y =, rstd =;  bwd dx = (+= when `accumulate`), dw +=
// Null      rstd of fwd (inference); dw (frozen)
// Aliasing  y may be x when f32; dx may be dy when f32 and not `accumulate`
// Repeat    a row has the same bits whatever T and the threads; dw sums over T in one order
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"

namespace moltide {

void rmsnorm_fwd(const Tensor& x, const float* w, float eps, const Tensor& y, float* rstd);
void rmsnorm_bwd(const Tensor& dy, const Tensor& x, const float* w, const float* rstd,
                 const Tensor& dx, bool accumulate, float* dw);

}  // namespace moltide
