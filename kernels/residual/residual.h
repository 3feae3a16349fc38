// residual: sums and copies of rows between f32 and bf16
//   residual_add  x += scale * branch   the residual stream (its gradient is scale * dx: the same
//   op) copy_cast     to = from, rounded to nearest even where `to` is the narrower accumulate    y
//   += x, summed in f32, rounded to y's type
// Shapes    every pair (T, C) alike, any row stride
// Types     residual_add: x f32, branch f32 or bf16; the others: f32 or bf16 on either side
// Aliasing  none
// Repeat    bit-identical for a row whatever T is
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"

namespace moltide {

void residual_add(const Tensor& x, const Tensor& branch, float scale);
void copy_cast(const Tensor& from, const Tensor& to);
void accumulate(const Tensor& x, const Tensor& y);

}  // namespace moltide
