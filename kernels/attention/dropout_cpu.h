// Which probabilities dropout keeps: the draws of attention.h, W queries at a time.
#pragma once
#include "attention/tiles_cpu.h"
#include "device/dropout_lanes.h"

namespace moltide::MOLTIDE_ISA {

// f(key row of the tile, vector, mask: all ones where kept) for n keys from first_key (a multiple
// of 4) and the queries of rows h*T + t = first_row ...
template <class F>
MOLTIDE_INLINE void for_kept(const AttentionArgs& a, int64_t first_row, int64_t first_key,
                             int64_t n, int vectors, F&& f) {
  for (int v = 0; v < vectors; ++v)
    for_kept_lanes(a.seed, a.stream, a.dropout, first_row + v * W, first_key, n,
                   [&](int64_t j, vi kept) MOLTIDE_INLINED { f(j, v, kept); });
}

}  // namespace moltide::MOLTIDE_ISA
