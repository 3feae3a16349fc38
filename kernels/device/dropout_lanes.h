// Which probabilities attention's dropout keeps: the draws of attention/attention.h, W queries at a
// time.
#pragma once
#include "device/philox_simd.h"

namespace moltide::MOLTIDE_ISA {

// f(j, mask: all ones where kept) for keys first_key + j, j < n (first_key a multiple of 4), and
// the W queries of rows h*T + t = first_row ...
template <class F>
MOLTIDE_INLINE void for_kept_lanes(uint64_t seed, uint64_t stream, float dropout, int64_t first_row,
                                   int64_t first_key, int64_t n, F&& f) {
  vu row_low, row_high;
  for (int i = 0; i < W; ++i) {
    const uint64_t counter = static_cast<uint64_t>(first_row + i) << 18;
    row_low[i] = static_cast<uint32_t>(counter);
    row_high[i] = static_cast<uint32_t>(counter >> 32);
  }
  for (int64_t j = 0; j < n; j += 4) {
    // The low 18 bits of the counter are free for the key: no carry.
    const vu low = row_low + static_cast<uint32_t>((first_key + j) / 4);
    const PhiloxLanes draw = philox_lanes(seed, low, row_high, stream);
    for (int64_t k = 0; k < 4 && j + k < n; ++k) {
      const vf uniform = __builtin_convertvector((vi)(draw.v[k] >> 8), vf) * (1.0f / 16777216.0f);
      f(j + k, (vi)(uniform >= set1(dropout)));
    }
  }
}

}  // namespace moltide::MOLTIDE_ISA
