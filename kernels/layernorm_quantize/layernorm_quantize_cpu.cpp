#include "device/quantize_row.h"
#include "layernorm_quantize/layernorm_quantize_params.h"

namespace moltide::MOLTIDE_ISA {

// row: scratch for one normalised row. The arithmetic is layernorm_fwd's, step by step.
void layernorm_quantize_rows(const LayerNormQuantize& p, float* row, int64_t begin, int64_t end) {
  const float count = static_cast<float>(p.cols);
  for (int64_t t = begin; t < end; ++t) {
    const float* x = p.x + t * p.x_ld;
    const float mean =
        sum_columns(p.cols, [&](int64_t i, auto n) { return load(x + i, n); }) / count;
    const float square = sum_columns(p.cols, [&](int64_t i, auto n) {
      const vf d = load(x + i, n) - set1(mean);
      return d * d;
    });
    const float rstd = 1.0f / __builtin_sqrtf(square / count + p.eps);
    vi amax = {};
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf hat = (load(x + i, n) - set1(mean)) * set1(rstd);
      const vf y = fma(hat, load(p.w + i, n), load(p.b + i, n));
      store(row + i, y, n);
      amax = larger(amax, magnitude_bits(keep(y, n)));
    });
    p.scale[t] = write_codes(row, p.cols, reduce_larger(amax), p.q + t * p.q_ld, p.q_ld);
  }
}

}  // namespace moltide::MOLTIDE_ISA
