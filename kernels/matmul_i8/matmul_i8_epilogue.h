// The last step of a tile: scales, bias, accumulation, GELU, rounding, from int32 sums in scratch.
#pragma once
#include "device/gelu.h"
#include "device/gelu_int8.h"
#include "device/no_bias.h"
#include "device/put.h"
#include "device/quantize_row.h"
#include "matmul_i8/matmul_i8_params.h"

namespace moltide::MOLTIDE_ISA {

constexpr int64_t kSumsLd = 2 * kInt8Panel;  // from row to row of sums

// Where a result that becomes int8 waits: its rows as float32, and their largest magnitudes lane by
// lane.
struct Waiting {
  float* g;
  int64_t g_ld;
  int32_t* amax;  // (rows, W)
};

// Sums of a tile, or what is left of it, and where its results go.
template <class Y>
struct I8Unfinished {
  const int32_t* sum;
  const float *x_scale, *w_scale, *bias;
  Y* y;
  int64_t rows, cols;
  int64_t y_ld;
  Waiting waiting;
};

// Rows [row, row + rows) of y, columns [col, col + cols); `waiting` is of the first of the rows.
template <class Y>
MOLTIDE_INLINE I8Unfinished<Y> i8_unfinished(const MatmulI8Params& p, int64_t row, int64_t rows,
                                             int64_t col, int64_t cols, const int32_t* sum,
                                             Waiting waiting) {
  if (waiting.g) waiting.g += col;
  return {sum,
          p.x_scale + row,
          p.w_scale + col,
          p.bias ? p.bias + col : kNoBias.value,
          p.y ? static_cast<Y*>(p.y) + row * p.y_ld + col : nullptr,
          rows,
          cols,
          p.y_ld,
          waiting};
}

// Columns j .. j + W of row i.
template <int kEpilogue, class Y, class N>
MOLTIDE_INLINE void i8_finish_vector(const I8Unfinished<Y>& u, int64_t i, int64_t j, vf w, vf bias,
                                     N n) {
  vi sum;
  std::memcpy(&sum, u.sum + i * kSumsLd + j, sizeof(sum));
  vf v = __builtin_convertvector(sum, vf) * (w * set1(u.x_scale[i])) + bias;
  if (kEpilogue == 3) {
    v = vgelu_int8(v);
    store(u.waiting.g + i * u.waiting.g_ld + j, v);
    vi most;
    std::memcpy(&most, u.waiting.amax + i * W, sizeof(most));
    most = larger(most, magnitude_bits(v));
    std::memcpy(u.waiting.amax + i * W, &most, sizeof(most));
    return;
  }
  Y* y = u.y + i * u.y_ld + j;
  if (kEpilogue == 1) v = load(y, n) + v;
  if (kEpilogue == 2) v = vgelu(v);
  put(y, v, count_of(n));
}

template <int kEpilogue, class Y, class N>
MOLTIDE_INLINE void i8_finish_columns(const I8Unfinished<Y>& u, int64_t j, N n) {
  const vf w = load(u.w_scale + j), bias = load(u.bias + j, n);
  for (int64_t i = 0; i < u.rows; ++i) i8_finish_vector<kEpilogue>(u, i, j, w, bias, n);
}
template <int kEpilogue, class Y>
__attribute__((noinline)) void i8_finish_rows(I8Unfinished<Y> u) {
  for_columns(u.cols, [&](int64_t j, auto n) { i8_finish_columns<kEpilogue>(u, j, n); });
}

}  // namespace moltide::MOLTIDE_ISA
