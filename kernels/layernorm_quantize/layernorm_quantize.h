// layernorm_quantize: q = quantize(layernorm(x)), each row by itself, with no (T, C) in between
// Shapes    x (T, C) f32, any row stride; w b (C) f32; q (T, C) int8 with one f32 scale a row
// Writes    q =, zeros from column C up to its row stride; scale =
// Aliasing  none
// Needs     q's row stride a multiple of 64; else refused in layernorm_quantize.cpp
// Workspace thread_scratch only
// Repeat    the codes and scales of quantize after layernorm_fwd into float32, on each instruction
//           set; a row has the same bits whatever T and the threads
// Special   as quantize
#pragma once
#include "core/int8_rows.h"
#include "core/tensor.h"

namespace moltide {

void layernorm_quantize(const Tensor& x, const float* w, const float* b, float eps,
                        const Int8Rows& q);

}  // namespace moltide
