#include "device/rows.h"
#include "embedding/embedding_params.h"

namespace moltide::MOLTIDE_ISA {

void embedding_fwd_rows(const EmbeddingRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* token = p.table + p.tokens[t] * p.table_ld;
    const float* place =
        p.positions ? p.positions + (p.position[t] + p.position_offset) * p.positions_ld : nullptr;
    const vf scale = set1(p.scale ? p.scale[t] : 1.0f);
    float* x = p.x + t * p.x_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      vf v = load(token + i, n) * scale;
      if (place) v += load(place + i, n);
      store(x + i, v, n);
    });
  }
}

void embedding_bwd_columns(const EmbeddingRows& p, int64_t begin, int64_t end) {
  for (int64_t t = 0; t < p.rows; ++t) {
    const float* dx = p.x + t * p.x_ld + begin;
    float* token = p.table ? p.table + p.tokens[t] * p.table_ld + begin : nullptr;
    float* place = p.positions
                       ? p.positions + (p.position[t] + p.position_offset) * p.positions_ld + begin
                       : nullptr;
    const vf scale = set1(p.scale ? p.scale[t] : 1.0f);
    for_columns(end - begin, [&](int64_t i, auto n) {
      const vf d = load(dx + i, n);
      if (token) store(token + i, fma(d, scale, load(token + i, n)), n);
      if (place) store(place + i, load(place + i, n) + d, n);
    });
  }
}

}  // namespace moltide::MOLTIDE_ISA
