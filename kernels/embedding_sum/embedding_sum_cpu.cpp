#include "device/rows.h"
#include "embedding_sum/embedding_sum_params.h"

namespace moltide::MOLTIDE_ISA {

void embedding_sum_fwd_rows(const EmbeddingSumRows& p, int64_t begin, int64_t end) {
  const vf scale = set1(p.scale);
  for (int64_t t = begin; t < end; ++t) {
    const int16_t* ids = p.ids + t * p.stride;
    float* x = p.x + t * p.x_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      vf sum{};
      for (int64_t f = 0; f < p.count; ++f)
        if (ids[f] >= 0) sum += load(p.table + ids[f] * p.table_ld + i, n);
      store(x + i, fma(sum, scale, load(x + i, n)), n);
    });
  }
}

void embedding_sum_bwd_columns(const EmbeddingSumRows& p, int64_t begin, int64_t end) {
  const vf scale = set1(p.scale);
  for (int64_t t = 0; t < p.rows; ++t) {
    const int16_t* ids = p.ids + t * p.stride;
    const float* dx = p.x + t * p.x_ld;
    for (int64_t f = 0; f < p.count; ++f) {
      if (ids[f] < 0) continue;
      float* row = p.table + ids[f] * p.table_ld;
      for_columns(end - begin, [&](int64_t i, auto n) {
        float* at = row + begin + i;
        store(at, fma(load(dx + begin + i, n), scale, load(at, n)), n);
      });
    }
  }
}

}  // namespace moltide::MOLTIDE_ISA
