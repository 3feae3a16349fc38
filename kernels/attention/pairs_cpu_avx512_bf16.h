// Rows of (T, H*D) bf16 matrices as pairs of a sum in 32 bits, and products of such pairs.
#pragma once
#include "attention/bf16_cpu.h"
#include "attention/tiles_cpu.h"

// Inlined into a loop, constants of one register tile would take registers of the sums of the next.
#define MOLTIDE_APART __attribute__((noinline)) static

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE vf add_products(vf sum, __m512i a, __m512i b) {
  return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

// take(c, lanes) for every two columns of up to 16 rows, 2c and 2c + 1 of a row in each lane of 32
// bits; zeros for rows that are not there.
template <class F>
MOLTIDE_INLINE void for_column_pairs(const bf16* rows, int64_t ld, int64_t n, int64_t d, F&& take) {
  for (int64_t c = 0; c < d; c += 2 * W) {
    const __mmask32 mask = first_elements<__mmask32>(d - c);
    vf tile[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
      const bool there = i < n;
      tile[i] = (vf)_mm512_maskz_loadu_epi16(there ? mask : 0, rows + (there ? i : 0) * ld + c);
    }
    transpose(tile);
    const int64_t columns = d - c < 2 * W ? (d - c) / 2 : W;
    for (int64_t j = 0; j < columns; ++j) take(c / 2 + j, (__m512i)tile[j]);
  }
}

// out (pairs, stride): a column of rows 2i and 2i + 1 in 32 bits; zeros beyond n rows, d columns.
static void pair_rows(const bf16* rows, int64_t ld, int64_t n, int64_t d, int64_t pairs,
                      int64_t stride, uint32_t* out) {
  for (int64_t c = 0; c < stride; c += W) {
    const __mmask16 mask = first_elements<__mmask16>(d - c);
    const __mmask16 out_mask = first_elements<__mmask16>(stride - c);
    for (int64_t i = 0; i < pairs; ++i) {
      const bool first = 2 * i < n, second = 2 * i + 1 < n;
      const bf16* row = rows + (first ? 2 * i * ld : 0) + c;
      const __m256i low = _mm256_maskz_loadu_epi16(first ? mask : 0, row);
      const __m256i high = _mm256_maskz_loadu_epi16(second ? mask : 0, row + (second ? ld : 0));
      const __m512i both = _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
      _mm512_mask_storeu_epi32(out + i * stride + c, out_mask, both);
    }
  }
}

// R rows of c (rows `c_stride` apart) by V vectors: c = or += sum over l < n of a(i, l) * b[l],
// pairs of bf16 in 32 bits. a(i, l) is at a + i * a_row + l * a_step.
template <int R, int V>
MOLTIDE_APART void add_pairs(const uint32_t* a, int64_t a_row, int64_t a_step, const uint32_t* b,
                             int64_t b_stride, int64_t n, bool begin, float* c, int64_t c_stride) {
  vf sum[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[i][v] = begin ? vf{} : load(c + i * c_stride + v * W);
  }
  for (int64_t l = 0; l < n; ++l, a += a_step, b += b_stride) {
    __m512i row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = _mm512_loadu_si512(b + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[i * a_row]));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] = add_products(sum[i][v], row[v], x);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + i * c_stride + v * W, sum[i][v]);
  }
}

// The same for any even number of rows.
template <int V>
MOLTIDE_INLINE void add_row_pairs(int64_t rows, const uint32_t* a, int64_t a_row, int64_t a_step,
                                  const uint32_t* b, int64_t b_stride, int64_t n, bool begin,
                                  float* c, int64_t c_stride) {
  constexpr int kMost = V == 4 ? 6 : V == 3 ? 8 : 12;
  const auto some = [&]<int R>() __attribute__((always_inline)) {
    add_pairs<R, V>(a, a_row, a_step, b, b_stride, n, begin, c, c_stride);
    a += R * a_row;
    c += R * c_stride;
    rows -= R;
  };
  while (rows >= kMost) some.template operator()<kMost>();
  if (kMost > 8 && rows >= 8) some.template operator()<8>();
  if (rows >= 4) some.template operator()<4>();
  if (rows >= 2) some.template operator()<2>();
}

// Lane i of factor * tile (d, kLanes) becomes the row at row_of(i), unless that is null. Returns
// the lanes that are not finite.
template <class F>
MOLTIDE_INLINE __mmask16 store_lanes(const float* tile, vf factor, int64_t d, F&& row_of) {
  const __m512 infinity = _mm512_set1_ps(__builtin_inff());
  __mmask16 wrong = 0;
  for (int64_t c = 0; c < d; c += W) {
    vf block[W];
#pragma GCC unroll 16
    for (int j = 0; j < W; ++j) {
      block[j] = c + j < d ? factor * load(tile + (c + j) * kLanes) : vf{};
      wrong |= _mm512_cmp_ps_mask((__m512)vabs(block[j]), infinity, _CMP_NLT_UQ);
    }
    transpose(block);
    const __mmask16 mask = first_elements<__mmask16>(d - c);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) {
      if (bf16* row = row_of(i))
        _mm256_mask_storeu_epi16(row + c, mask, (__m256i)_mm512_cvtneps_pbh((__m512)block[i]));
    }
  }
  return wrong;
}

}  // namespace moltide::MOLTIDE_ISA
