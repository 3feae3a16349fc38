#include "device/rows.h"
#include "pool/pool_params.h"

namespace moltide::MOLTIDE_ISA {

// Rows [first, last) of the packed tensor that take part in sequence b's result.
MOLTIDE_INLINE void taking_part(const PoolRows& p, int64_t b, int64_t* first, int64_t* last) {
  const int64_t begin = p.cu_seqlens[b], end = p.cu_seqlens[b + 1];
  *first = p.pool == Pool::cls ? begin : begin + p.skip_first;
  *last = p.pool == Pool::cls ? (begin < end ? begin + 1 : begin) : end - p.skip_last;
  if (*last < *first) *last = *first;
}

void pool_fwd_columns(const PoolRows& p, int64_t b, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;  // rows whose sum joins the total at once: small rounding
  int64_t first, last;
  taking_part(p, b, &first, &last);
  const vf count = set1(last > first ? static_cast<float>(last - first) : 1.0f);
  for_column_groups(begin, end, [&](int64_t i, auto n, auto vectors) {
    constexpr int V = decltype(vectors)::value;
    vf total[V] = {};
    for (int64_t from = first; from < last; from += kBlock) {
      const int64_t to = from + kBlock < last ? from + kBlock : last;
      vf block[V] = {};
      for (int64_t t = from; t < to; ++t)
        for (int v = 0; v < V; ++v) block[v] += load(p.packed + t * p.packed_ld + i + v * W, n);
      for (int v = 0; v < V; ++v) total[v] += block[v];
    }
    for (int v = 0; v < V; ++v) store(p.pooled + b * p.pooled_ld + i + v * W, total[v] / count, n);
  });
}

void pool_bwd_rows(const PoolRows& p, int64_t b) {
  int64_t first, last;
  taking_part(p, b, &first, &last);
  const vf count = set1(last > first ? static_cast<float>(last - first) : 1.0f);
  const float* dy = p.pooled + b * p.pooled_ld;
  for (int64_t t = p.cu_seqlens[b]; t < p.cu_seqlens[b + 1]; ++t) {
    const bool part = t >= first && t < last;
    float* dx = p.packed + t * p.packed_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      store(dx + i, part ? load(dy + i, n) / count : vf{}, n);
    });
  }
}

}  // namespace moltide::MOLTIDE_ISA
