// Which probabilities dropout keeps: the draws of attention.h, W queries at a time.
#pragma once
#include "attention/tiles_cpu.h"
#include "device/philox_simd.h"

namespace moltide::MOLTIDE_ISA {

// f(key row of the tile, vector, mask: all ones where kept) for n keys from first_key (a multiple
// of 4) and the queries of rows h*T + t = first_row ...
template <class F>
MOLTIDE_INLINE void for_kept(const AttentionArgs& a, int64_t first_row, int64_t first_key,
                             int64_t n, int vectors, F&& f) {
  for (int v = 0; v < vectors; ++v) {
    vu row_low, row_high;
    for (int i = 0; i < W; ++i) {
      const uint64_t counter = static_cast<uint64_t>(first_row + v * W + i) << 18;
      row_low[i] = static_cast<uint32_t>(counter);
      row_high[i] = static_cast<uint32_t>(counter >> 32);
    }
    for (int64_t j = 0; j < n; j += 4) {
      // The low 18 bits of the counter are free for the key: no carry.
      const vu low = row_low + static_cast<uint32_t>((first_key + j) / 4);
      const PhiloxLanes draw = philox_lanes(a.seed, low, row_high, a.stream);
      for (int64_t k = 0; k < 4 && j + k < n; ++k) {
        const vf uniform = __builtin_convertvector((vi)(draw.v[k] >> 8), vf) * (1.0f / 16777216.0f);
        f(j + k, v, (vi)(uniform >= set1(a.dropout)));
      }
    }
  }
}

}  // namespace moltide::MOLTIDE_ISA
