// triangle_product: for each channel of pairs of tokens, over third tokens k,
//   x(i,j) = sum of a(i,k) b(j,k) + a(k,i) b(k,j)
// (both triangle multiplications of Jumper et al. 2021, doi:10.1038/s41586-021-03819-2, of the same
// factors: Uni-Mol2, Ji et al. 2024, arXiv:2406.14969)
// Shapes    a b x da db dx (C, L, L) f32, planes as attention_pair_bias has them: the pair (i, k)
//           at [k][i]
// Writes    fwd x =;  bwd da =, db =
// Aliasing  da may be a and db may be b; nothing else
// Memory    per thread O(L^2), thread_scratch
// Repeat    a plane has the same bits whatever C and the threads
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

namespace moltide {

void triangle_product_fwd(const float* a, const float* b, int64_t channels, int64_t length,
                          float* x);
void triangle_product_bwd(const float* dx, const float* a, const float* b, int64_t channels,
                          int64_t length, float* da, float* db);

}  // namespace moltide
