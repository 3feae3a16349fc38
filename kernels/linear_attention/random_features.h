// The matrices w of linear_attention (Choromanski et al. 2021, section 2.4): blocks of D columns,
// orthogonal to one another within a block, each as long as a vector of D normal numbers.
// Shapes    w (D, M) f32; column j of block b is orthonormal vector j of the block, from
//           Gram-Schmidt over the columns of a matrix G of normal numbers, times the length of G's
//           row j
// Draws     G[i][j] of block b, all in float64: Box-Muller's cosine of lanes 0 and 1 of Philox at
// key
//           = seed, counter_low = (b*D + i) * D + j, counter_high = stream
// Writes    w =
// Needs     D and M at least 1
// Repeat    a function of its arguments; of M only how many columns there are
#pragma once
#include <cstdint>

namespace moltide {

void draw_orthogonal_features(uint64_t seed, uint64_t stream, int64_t head_dim, int64_t features,
                              float* w);

}  // namespace moltide
