#include "device/rows.h"
#include "rmsnorm/rmsnorm_params.h"

namespace moltide::MOLTIDE_ISA {

template <class Y>
static void fwd_rows(const RmsNormFwd& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float* x = p.x + t * p.x_ld;
    Y* y = static_cast<Y*>(p.y) + t * p.y_ld;
    const float square = sum_columns(p.cols, [&](int64_t i, auto n) {
      const vf v = load(x + i, n);
      return v * v;
    });
    const float rstd = 1.0f / __builtin_sqrtf(square / static_cast<float>(p.cols) + p.eps);
    for_columns(p.cols, [&](int64_t i, auto n) {
      store(y + i, load(x + i, n) * set1(rstd) * load(p.w + i, n), n);
    });
    if (p.rstd) p.rstd[t] = rstd;
  }
}

void rmsnorm_fwd_rows(const RmsNormFwd& p, int64_t begin, int64_t end) {
  if (p.y_type == DType::f32)
    fwd_rows<float>(p, begin, end);
  else
    fwd_rows<bf16>(p, begin, end);
}

// With g = dy * w and h = x * rstd: dx = rstd * (g - h * mean(g * h)).
template <class DY>
static void bwd_rows(const RmsNormBwd& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const DY* dy = static_cast<const DY*>(p.dy) + t * p.dy_ld;
    const float* x = p.x + t * p.x_ld;
    float* dx = p.dx + t * p.dx_ld;
    const vf rstd = set1(p.rstd[t]);
    const float gh = sum_columns(p.cols, [&](int64_t i, auto n) {
      return load(dy + i, n) * load(p.w + i, n) * (load(x + i, n) * rstd);
    });
    const vf mean_gh = set1(gh / static_cast<float>(p.cols));
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf g = load(dy + i, n) * load(p.w + i, n);
      vf d = rstd * fma(-(load(x + i, n) * rstd), mean_gh, g);
      if (p.accumulate) d += load(dx + i, n);
      store(dx + i, d, n);
    });
  }
}

void rmsnorm_bwd_rows(const RmsNormBwd& p, int64_t begin, int64_t end) {
  if (p.dy_type == DType::f32)
    bwd_rows<float>(p, begin, end);
  else
    bwd_rows<bf16>(p, begin, end);
}

// Columns in groups, over all rows in order; partial sums of 64 rows keep rounding small.
template <class DY>
static void bwd_columns(const RmsNormBwd& p, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;
  for_column_groups(begin, end, [&](int64_t i, auto n, auto vectors) {
    constexpr int V = decltype(vectors)::value;
    vf dw[V] = {};
    for (int64_t first = 0; first < p.rows; first += kBlock) {
      const int64_t last = first + kBlock < p.rows ? first + kBlock : p.rows;
      vf block[V] = {};
      for (int64_t t = first; t < last; ++t) {
        const DY* dy = static_cast<const DY*>(p.dy) + t * p.dy_ld + i;
        const float* x = p.x + t * p.x_ld + i;
        const vf rstd = set1(p.rstd[t]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          block[v] = fma(load(dy + v * W, n), load(x + v * W, n) * rstd, block[v]);
      }
      for (int v = 0; v < V; ++v) dw[v] += block[v];
    }
    for (int v = 0; v < V; ++v) {
      float* to = p.dw + i + v * W;
      store(to, load(to, n) + dw[v], n);
    }
  });
}

void rmsnorm_bwd_columns(const RmsNormBwd& p, int64_t begin, int64_t end) {
  if (p.dy_type == DType::f32)
    bwd_columns<float>(p, begin, end);
  else
    bwd_columns<bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
