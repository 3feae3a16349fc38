// norm_clip: the global norm of the gradients, and the factor that clips it
// Shapes    g (n) f32
// Returns   sum_squares: sum of g^2, products and sums in double, so that no finite gradient
//           overflows; NaN and infinity come through
// Repeat    chunks of a fixed size in a fixed order: same bits for any thread count and ISA
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

namespace moltide {

double sum_squares(const float* g, int64_t n);

// min(1, max_norm / (sqrt(total) + 1e-6)), as torch.nn.utils.clip_grad_norm_; total is the sum of
// sum_squares over all gradients. max_norm 0: no clipping, 1. A NaN total gives NaN, an infinite
// one 0: callers look at the norm first. Throws std::invalid_argument for a negative max_norm.
float clip_scale(double total, double max_norm);

}  // namespace moltide
