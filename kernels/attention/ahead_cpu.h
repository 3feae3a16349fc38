// What attention reads or writes next, asked for while it multiplies: heads lie side by side in
// rows far apart, which no hardware foresees.
#pragma once
#include "attention/attention_args.h"
#include "device/prefetch.h"

namespace moltide::MOLTIDE_ISA {

template <bool kWrite>
MOLTIDE_INLINE void prefetch_head(const AttentionArgs& a, const AttentionMatrix& x, int64_t row,
                                  int64_t rows, int64_t head) {
  const int64_t bytes = a.bf16 ? 2 : 4;
  prefetch_rows<kWrite>(static_cast<const char*>(x.data) + (row * x.ld + head * a.head_dim) * bytes,
                        x.ld * bytes, rows, a.head_dim * bytes);
}

// Before the tile of the block of queries [first_row, first_row + rows) and of keys [key, key + n):
// with the first block, those keys and values of the next head, which most often comes next; with
// the last keys, the block's output.
MOLTIDE_INLINE void prefetch_after(const AttentionArgs& a, const AttentionPiece& piece,
                                   int64_t first_row, int64_t rows, int64_t key, int64_t n) {
  if (first_row == 0 && piece.head + 1 < a.heads) {
    prefetch_head<false>(a, a.k, piece.start + key, n, piece.head + 1);
    prefetch_head<false>(a, a.v, piece.start + key, n, piece.head + 1);
  }
  if (key + n == piece.len) prefetch_head<true>(a, a.o, piece.start + first_row, rows, piece.head);
}

}  // namespace moltide::MOLTIDE_ISA
