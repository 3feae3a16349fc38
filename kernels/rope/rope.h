// rope: rotary positions (Su et al. 2021), halves of a head paired (x[i] with x[i + D/2])
//   y[i] = x[i] cos - x[i + D/2] sin,  y[i + D/2] = x[i + D/2] cos + x[i] sin
// Shapes    x (T, H * D), any row stride; position (T) int32; cos sin (max_len, D/2) f32
// Types     x f32 or bf16 (computed in f32, rounded once)
// Writes    x = in place; `inverse` turns the other way: the backward, since rotations are
//           orthogonal
// Needs     D even; 0 <= position[t] < max_len of the tables (the caller's word: unchecked)
// Repeat    bit-identical for a row whatever T is
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

// Row p: cos and sin of p * inv_freq[i], inv_freq[i] = 1 / base^(2i / D). inv_freq and the product
// are rounded to f32 as the published models do: at position 2000 that is worth 1e-4 of an angle.
void rope_table(int64_t max_len, int64_t head_dim, double base, float* cos, float* sin);
// The same with the (D/2) inv_freq of a checkpoint, which may have been rounded to half precision.
void rope_table(int64_t max_len, int64_t head_dim, const float* inv_freq, float* cos, float* sin);

void rope(const Tensor& x, const int32_t* position, int64_t heads, int64_t head_dim,
          const float* cos, const float* sin, bool inverse);

}  // namespace moltide
