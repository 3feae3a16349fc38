#include "device/rows.h"
#include "device/transpose.h"
#include "pair_planes/pair_planes_params.h"

namespace moltide::MOLTIDE_ISA {
namespace {

// W pairs by W heads at a time.
template <class T>
void to_planes(const PairBlock& b) {
  const T* rows = static_cast<const T*>(b.rows);
  for (int64_t h = 0; h < b.heads; h += W) {
    const int64_t heads = b.heads - h;
    for_columns(b.pairs, [&](int64_t i, auto n) {
      vf tile[W];
      for (int r = 0; r < W; ++r) {
        const T* row = rows + (i + r) * b.rows_ld + h;
        tile[r] = r >= count_of(n) ? vf{} : heads >= W ? load(row) : load_n(row, heads);
      }
      transpose(tile);
      for (int64_t c = 0; c < W && c < heads; ++c)
        store(b.plane + (h + c) * b.plane_ld + i, tile[c], n);
    });
  }
}

template <class T>
void from_planes(const PairBlock& b) {
  T* rows = static_cast<T*>(b.rows);
  for (int64_t h = 0; h < b.heads; h += W) {
    const int64_t heads = b.heads - h;
    for_columns(b.pairs, [&](int64_t i, auto n) {
      vf tile[W];
      for (int c = 0; c < W; ++c)
        tile[c] = c < heads ? load(b.plane + (h + c) * b.plane_ld + i, n) : vf{};
      transpose(tile);
      for (int64_t r = 0; r < count_of(n); ++r) {
        T* row = rows + (i + r) * b.rows_ld + h;
        heads >= W ? store(row, tile[r]) : store_n(row, tile[r], heads);
      }
    });
  }
}

}  // namespace

void pairs_to_planes_block(const PairBlock& b) {
  b.rows_type == DType::f32 ? to_planes<float>(b) : to_planes<bf16>(b);
}

void planes_to_pairs_block(const PairBlock& b) {
  b.rows_type == DType::f32 ? from_planes<float>(b) : from_planes<bf16>(b);
}

}  // namespace moltide::MOLTIDE_ISA
