// The last step of a tile: scales, bias, accumulation, GELU, rounding, from int32 sums in scratch.
#pragma once
#include "device/gelu.h"
#include "device/gelu_int8.h"
#include "device/quantize_row.h"
#include "matmul_i8/matmul_i8_params.h"

namespace moltide::MOLTIDE_ISA {

// Sums of `rows` rows from `row` of y on and `cols` columns from `col` on.
constexpr int64_t kSumsLd = 2 * kInt8Panel;
struct Sums {
  const int32_t* c;
  int64_t row, rows, col, cols;
  // Of a result that becomes int8: its rows as float32, and their largest magnitudes lane by lane.
  float* g;
  int64_t g_ld;
  int32_t* amax;
};

template <class Y>
MOLTIDE_INLINE void put(Y* y, vf v, Whole n) {
  store(y, v, n);
}
template <class Y>
MOLTIDE_INLINE void put(Y* y, vf v, Part n) {
  store(y, v, n);
}
#if defined(__AVX512BF16__)
MOLTIDE_INLINE void put(bf16* y, vf v, Whole) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
MOLTIDE_INLINE void put(bf16* y, vf v, Part n) {
  _mm256_mask_storeu_epi16(y, static_cast<__mmask16>((1u << n.n) - 1),
                           (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
#endif

template <int kEpilogue, class Y, class N>
MOLTIDE_INLINE void finish_column(const MatmulI8Params& p, const Sums& s, int64_t first,
                                  int64_t last, int64_t j, N n) {
  const int64_t col = s.col + j;
  const vf w = load(p.w_scale + col), bias = p.bias ? load(p.bias + col, n) : vf{};
  for (int64_t i = first; i < last; ++i) {
    vi sum;
    std::memcpy(&sum, s.c + i * kSumsLd + j, sizeof(sum));
    vf v = __builtin_convertvector(sum, vf) * (w * set1(p.x_scale[s.row + i])) + bias;
    if (kEpilogue == 3) {
      v = vgelu_int8(v);
      store(s.g + i * s.g_ld + col, v);
      vi most;
      std::memcpy(&most, s.amax + i * W, sizeof(most));
      most = larger(most, magnitude_bits(v));
      std::memcpy(s.amax + i * W, &most, sizeof(most));
      continue;
    }
    Y* y = static_cast<Y*>(p.y) + (s.row + i) * p.y_ld + col;
    if (kEpilogue == 1) v = load(y, n) + v;
    if (kEpilogue == 2) v = vgelu(v);
    put(y, v, n);
  }
}

// Rows [first, last) of the tile.
template <int kEpilogue, class Y>
__attribute__((noinline)) void finish_rows(const MatmulI8Params& p, const Sums& s, int64_t first,
                                           int64_t last) {
  int64_t j = 0;
  for (; j + W <= s.cols; j += W) finish_column<kEpilogue, Y>(p, s, first, last, j, Whole{});
  if (j < s.cols) finish_column<kEpilogue, Y>(p, s, first, last, j, Part{s.cols - j});
}

using Finish = void (*)(const MatmulI8Params&, const Sums&, int64_t, int64_t);

MOLTIDE_INLINE Finish choose_finish(const MatmulI8Params& p) {
  switch (p.epilogue) {
    case 0:
      return p.y_bf16 ? finish_rows<0, bf16> : finish_rows<0, float>;
    case 1:
      return p.y_bf16 ? finish_rows<1, bf16> : finish_rows<1, float>;
    case 2:
      return p.y_bf16 ? finish_rows<2, bf16> : finish_rows<2, float>;
    default:
      return finish_rows<3, float>;
  }
}

// A tile whose sums are done and whose results are not; parts of it can be finished bit by bit.
struct Pending {
  const MatmulI8Params* p;
  Finish finish;
  Sums sums;

  // Part `part` of `parts` of its rows.
  MOLTIDE_INLINE void run(const Pending& t, int64_t part, int64_t parts) {
    const int64_t first = part * t.sums.rows / parts, last = (part + 1) * t.sums.rows / parts;
    if (first < last) t.finish(*t.p, t.sums, first, last);
  }
};

}  // namespace moltide::MOLTIDE_ISA
