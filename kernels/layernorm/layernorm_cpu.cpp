#include "device/rows.h"
#include "layernorm/layernorm_params.h"

namespace moltide::MOLTIDE_ISA {

// A bias that is not there changes nothing, a zero's sign included.
template <bool kBias, class N>
MOLTIDE_INLINE vf bias(const float* b, int64_t i, N n) {
  if constexpr (kBias)
    return load(b + i, n);
  else
    return set1(-0.0f);
}

template <class X, class Y, bool kBias>
static void fwd_rows(const LayerNormFwd& p, int64_t begin, int64_t end) {
  const float count = static_cast<float>(p.cols);
  for (int64_t t = begin; t < end; ++t) {
    const X* x = static_cast<const X*>(p.x) + t * p.x_ld;
    Y* y = static_cast<Y*>(p.y) + t * p.y_ld;
    const float mean =
        sum_columns(p.cols, [&](int64_t i, auto n) { return load(x + i, n); }) / count;
    const float square = sum_columns(p.cols, [&](int64_t i, auto n) {
      const vf d = load(x + i, n) - set1(mean);
      return d * d;
    });
    const float rstd = 1.0f / __builtin_sqrtf(square / count + p.eps);
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf hat = (load(x + i, n) - set1(mean)) * set1(rstd);
      store(y + i, fma(hat, load(p.w + i, n), bias<kBias>(p.b, i, n)), n);
    });
    if (p.mean) p.mean[t] = mean;
    if (p.rstd) p.rstd[t] = rstd;
  }
}

template <class X, class Y>
static void fwd_any(const LayerNormFwd& p, int64_t begin, int64_t end) {
  if (p.b)
    fwd_rows<X, Y, true>(p, begin, end);
  else
    fwd_rows<X, Y, false>(p, begin, end);
}

void layernorm_fwd_rows(const LayerNormFwd& p, int64_t begin, int64_t end) {
  if (p.x_type == DType::bf16)
    fwd_any<bf16, bf16>(p, begin, end);
  else if (p.y_type == DType::f32)
    fwd_any<float, float>(p, begin, end);
  else
    fwd_any<float, bf16>(p, begin, end);
}

// With g = dy * w and h = (x - mean) * rstd: dx = rstd * (g - mean(g) - h * mean(g * h)).
template <class X, class DY>
static void bwd_rows(const LayerNormBwd& p, int64_t begin, int64_t end) {
  const float count = static_cast<float>(p.cols);
  for (int64_t t = begin; t < end; ++t) {
    const DY* dy = static_cast<const DY*>(p.dy) + t * p.dy_ld;
    const X* x = static_cast<const X*>(p.x) + t * p.x_ld;
    X* dx = static_cast<X*>(p.dx) + t * p.dx_ld;
    const vf mean = set1(p.mean[t]), rstd = set1(p.rstd[t]);
    const float mean_g =
        sum_columns(p.cols, [&](int64_t i, auto n) { return load(dy + i, n) * load(p.w + i, n); }) /
        count;
    const float mean_gh = sum_columns(p.cols,
                                      [&](int64_t i, auto n) {
                                        const vf h = (load(x + i, n) - mean) * rstd;
                                        return load(dy + i, n) * load(p.w + i, n) * h;
                                      }) /
                          count;
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf h = (load(x + i, n) - mean) * rstd;
      const vf g = load(dy + i, n) * load(p.w + i, n);
      vf d = rstd * (g - fma(h, set1(mean_gh), set1(mean_g)));
      if (p.accumulate) d += load(dx + i, n);
      store(dx + i, d, n);
    });
  }
}

void layernorm_bwd_rows(const LayerNormBwd& p, int64_t begin, int64_t end) {
  if (p.x_type == DType::bf16)
    bwd_rows<bf16, bf16>(p, begin, end);
  else if (p.dy_type == DType::f32)
    bwd_rows<float, float>(p, begin, end);
  else
    bwd_rows<float, bf16>(p, begin, end);
}

// Columns in groups, over all rows in order; partial sums of 64 rows keep rounding small.
template <class X, class DY>
static void bwd_columns(const LayerNormBwd& p, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;
  for_column_groups(begin, end, [&](int64_t i, auto n, auto vectors) {
    constexpr int V = decltype(vectors)::value;
    vf dw[V] = {}, db[V] = {};
    for (int64_t first = 0; first < p.rows; first += kBlock) {
      const int64_t last = first + kBlock < p.rows ? first + kBlock : p.rows;
      vf block_dw[V] = {}, block_db[V] = {};
      for (int64_t t = first; t < last; ++t) {
        const DY* dy = static_cast<const DY*>(p.dy) + t * p.dy_ld + i;
        const X* x = static_cast<const X*>(p.x) + t * p.x_ld + i;
        const vf mean = set1(p.mean[t]), rstd = set1(p.rstd[t]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const vf g = load(dy + v * W, n);
          block_dw[v] = fma(g, (load(x + v * W, n) - mean) * rstd, block_dw[v]);
          block_db[v] += g;
        }
      }
      for (int v = 0; v < V; ++v) {
        dw[v] += block_dw[v];
        db[v] += block_db[v];
      }
    }
    for (int v = 0; v < V; ++v) {
      const int64_t at = i + v * W;
      if (p.dw) store(p.dw + at, load(p.dw + at, n) + dw[v], n);
      if (p.db) store(p.db + at, load(p.db + at, n) + db[v], n);
    }
  });
}

void layernorm_bwd_columns(const LayerNormBwd& p, int64_t begin, int64_t end) {
  if (p.x_type == DType::bf16)
    bwd_columns<bf16, bf16>(p, begin, end);
  else if (p.dy_type == DType::f32)
    bwd_columns<float, float>(p, begin, end);
  else
    bwd_columns<float, bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
