// Transposition of W x W floats held in W vectors, in log2(W) rounds of two-vector shuffles.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// Swaps the off-diagonal halves of every 2 Step x 2 Step block of the matrix that `row` holds.
template <int Step>
MOLTIDE_INLINE void transpose_round(vf (&row)[W]) {
  vi low{}, high{};
  for (int j = 0; j < W; ++j) {
    low[j] = (j & Step) ? W + j - Step : j;
    high[j] = (j & Step) ? W + j : j + Step;
  }
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    if (i & Step) continue;
    const vf a = row[i], b = row[i + Step];
    row[i] = __builtin_shuffle(a, b, low);
    row[i + Step] = __builtin_shuffle(a, b, high);
  }
}

MOLTIDE_INLINE void transpose(vf (&row)[W]) {
  transpose_round<1>(row);
  transpose_round<2>(row);
  if constexpr (W >= 8) transpose_round<4>(row);
  if constexpr (W >= 16) transpose_round<8>(row);
}

}  // namespace moltide::MOLTIDE_ISA
