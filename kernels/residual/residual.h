// residual: sums and copies of rows between f32 and bf16
//   residual_add  x += scale * branch   the residual stream (its gradient is scale * dx: the same
//   op)
//   copy_cast     to = from, rounded to nearest even where `to` is the narrower
//   gather_rows   to[t] = from[row[t]]
//   accumulate    y += x, summed in f32, rounded to y's type
// Shapes    every pair (T, C) alike, any row stride; gather_rows: from (R, C), row (T) int32
// Types     residual_add: x f32, branch f32 or bf16; gather_rows: one type; the others: f32 or bf16
//           on either side
// Needs     gather_rows: 0 <= row[t] < R; else refused with t
// Aliasing  none
// Repeat    bit-identical for a row whatever T is
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"

namespace moltide {

void residual_add(const Tensor& x, const Tensor& branch, float scale);
void copy_cast(const Tensor& from, const Tensor& to);
void gather_rows(const Tensor& from, const int32_t* row, const Tensor& to);
void accumulate(const Tensor& x, const Tensor& y);

}  // namespace moltide
