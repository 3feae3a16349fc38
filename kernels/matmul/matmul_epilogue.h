// The last step of a tile: bias, rounding, accumulation or GELU, from float32 sums in scratch.
#pragma once
#include "device/gelu_bf16.h"
#include "device/no_bias.h"
#include "device/put.h"
#include "device/rows.h"
#include "matmul/matmul_params.h"

namespace moltide::MOLTIDE_ISA {

// The value that y's type holds: rounding before GELU makes pre and y agree.
MOLTIDE_INLINE vf round_as(vf v, const float*) {
  return v;
}
MOLTIDE_INLINE vf round_as(vf v, const bf16*) {
#if defined(__AVX512BF16__)
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded_bf16(v)), 16);
#else
  bf16 t[W];
  put(t, v, W);
  return load(t);
#endif
}

template <int kEpilogue, class Y, class N>
MOLTIDE_INLINE void finish_vector(vf v, vf bias, Y* y, Y* pre, N n) {
  v = v + bias;
  if (kEpilogue == 1) v = load(y, n) + v;
  if (kEpilogue != 2) return put(y, v, count_of(n));
  const vf u = round_as(v, y);
  if (pre) put(pre, u, count_of(n));
  put(y, vgelu(u, y), count_of(n));
}

// Sums of a tile, or what is left of it, and where its results go.
template <class Y>
struct Unfinished {
  const float* sum;
  const float* bias;
  Y *y, *pre;
  int64_t rows, cols;
  int64_t ld, y_ld, pre_ld;  // elements from row to row
};
template <class Y>
MOLTIDE_INLINE Unfinished<Y> unfinished(const MatmulParams& p, int64_t row, int64_t rows,
                                        int64_t col, int64_t cols, const float* sum, int64_t ld) {
  return {sum,
          p.bias ? p.bias + col : kNoBias.value,
          static_cast<Y*>(p.y) + row * p.y_ld + col,
          p.pre ? static_cast<Y*>(p.pre) + row * p.pre_ld + col : nullptr,
          rows,
          cols,
          ld,
          p.y_ld,
          p.pre_ld};
}

template <int kEpilogue, class Y, class N>
MOLTIDE_INLINE void finish_columns(const Unfinished<Y>& u, int64_t j, N n) {
  const vf bias = load(u.bias + j, n);
  for (int64_t i = 0; i < u.rows; ++i)
    finish_vector<kEpilogue>(load(u.sum + i * u.ld + j), bias, u.y + i * u.y_ld + j,
                             u.pre ? u.pre + i * u.pre_ld + j : nullptr, n);
}
template <int kEpilogue, class Y>
__attribute__((noinline)) void finish_rows(Unfinished<Y> u) {
  for_columns(u.cols, [&](int64_t j, auto n) { finish_columns<kEpilogue>(u, j, n); });
}

using Finish = void (*)(const MatmulParams&, int64_t, int64_t, int64_t, int64_t, const float*,
                        int64_t);

template <int kEpilogue, class Y>
void finish_tile(const MatmulParams& p, int64_t row, int64_t rows, int64_t col, int64_t cols,
                 const float* sum, int64_t ld) {
  finish_rows<kEpilogue>(unfinished<Y>(p, row, rows, col, cols, sum, ld));
}

MOLTIDE_INLINE Finish choose_finish(const MatmulParams& p) {
  switch (p.epilogue) {
    case 0:
      return p.y_bf16 ? finish_tile<0, bf16> : finish_tile<0, float>;
    case 1:
      return p.y_bf16 ? finish_tile<1, bf16> : finish_tile<1, float>;
    default:
      return p.y_bf16 ? finish_tile<2, bf16> : finish_tile<2, float>;
  }
}

}  // namespace moltide::MOLTIDE_ISA
