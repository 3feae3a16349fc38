// quantize: q = round(x / scale), scale = max |x| / 127, each row by itself (symmetric, per token)
// Shapes    x (T, C), any row stride; q (T, C) int8 with one f32 scale a row
// Types     x f32 or bf16; codes -127 .. 127; rounding to nearest, ties to even
// Writes    q =, zeros from column C up to its row stride; scale =
// Aliasing  none
// Needs     q's row stride a multiple of 64; else refused in quantize.cpp
// Repeat    same codes and scales on every instruction set, whatever T and the threads
// Special   a row whose largest magnitude is below 2^-100: scale 0, codes 0. A row that holds NaN
//           or Inf: scale NaN, codes 0, so that whatever is computed from the row is NaN
// Error     half a scale an element
#pragma once
#include "core/int8_rows.h"
#include "core/tensor.h"

namespace moltide {

void quantize(const Tensor& x, const Int8Rows& q);

}  // namespace moltide
