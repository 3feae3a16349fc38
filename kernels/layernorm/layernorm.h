// layernorm: y = (x - mean) * rstd * w + b, each row by itself (Ba et al. 2016)
// Shapes    x y dx dy (T, C), any row stride; w b dw db (C) f32; mean rstd (T) f32
// Types     x f32 (the residual stream) with y dy f32 or bf16; x y dy bf16 (queries, keys); dx as x
// Writes    fwd y =, mean =, rstd =;  bwd dx = (+= when `accumulate`), dw +=, db +=
// Null      b (none); mean and rstd of fwd (inference); dw and db (frozen, none)
// Aliasing  y may be x of one type; dx may be dy of one type when not `accumulate`
// Repeat    a row has the same bits whatever T and the threads; dw and db sum over T in one order
// Error     tests/tolerances.py; variance in two passes, biased, eps inside the root
#pragma once
#include "core/tensor.h"

namespace moltide {

void layernorm_fwd(const Tensor& x, const float* w, const float* b, float eps, const Tensor& y,
                   float* mean, float* rstd);
void layernorm_bwd(const Tensor& dy, const Tensor& x, const float* w, const float* mean,
                   const float* rstd, const Tensor& dx, bool accumulate, float* dw, float* db);

}  // namespace moltide
