// dropout: y = x / (1 - p) where the element's draw is >= p, else 0 (Srivastava et al. 2014)
// Shapes    x y (T, C), any row stride
// Types     x and y both f32 or both bf16
// Writes    y =; forward and backward are the same call (dy in, dx out)
// Aliasing  y may be x
// Draws     element (t, c): lane c % 4 of philox4x32(key = seed, low = t * ceil(C / 4) + c / 4,
//           high = stream), its top 24 bits as a fraction: no mask is stored
// Needs     0 <= p < 1
// Repeat    a function of (seed, stream, t, c) and x alone
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

void dropout(const Tensor& x, const Tensor& y, float p, uint64_t seed, uint64_t stream);

}  // namespace moltide
