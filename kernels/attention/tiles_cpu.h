// Tiles of attention on the CPU. A block of queries lies along the lanes of up to kBlockVectors
// vectors, so maxima and sums over keys are lane by lane and any head dimension fits:
//   scores S (keys, queries) = K Qt,  output Ot (D, queries) = V^T P.
#pragma once
#include "attention/attention_args.h"
#include "device/simd.h"
#include "device/transpose.h"

// After a lambda's parameters: its body is part of the loop that calls it, on every compiler's
// mind.
#define MOLTIDE_INLINED __attribute__((always_inline))

namespace moltide::MOLTIDE_ISA {

// Register tiles: kRegisterVectors columns of vectors by `main_rows` rows of accumulators.
#if defined(__AVX512F__)
constexpr int kRegisterVectors = 4, kBlockVectors = 4;
constexpr int main_rows(int vectors) {
  return vectors == 4 ? 6 : 8;
}
#else
constexpr int kRegisterVectors = 3, kBlockVectors = 6;
constexpr int main_rows(int vectors) {
  return vectors == 1 ? 8 : 4;
}
#endif
constexpr int64_t kTileKeys = 64;          // keys of a tile
constexpr int kLanes = kBlockVectors * W;  // row stride of every tile with queries as columns
constexpr int kPadRows = 8;                // tiles have this many spare rows

// Columns [first, first + V) of the vectors of a tile, V a constant in the callee.
template <class F>
MOLTIDE_INLINE void for_vector_groups(int vectors, F&& f) {
  for (int first = 0; first < vectors; first += kRegisterVectors) {
    const int left = vectors - first;
    if (left == 1) f.template operator()<1>(first);
    if (left == 2) f.template operator()<2>(first);
    if constexpr (kRegisterVectors == 3) {
      if (left >= 3) f.template operator()<3>(first);
    } else {
      if (left == 3) f.template operator()<3>(first);
      if (left >= 4) f.template operator()<4>(first);
    }
  }
}

MOLTIDE_INLINE int64_t even(int64_t n) {
  return (n + 1) & ~int64_t{1};
}

// Where a(i, l) of a left factor lies: rows or columns contiguous.
enum class Left { rows, columns };

// C[i][v] = sum over l < n of a(i, l) * b[l][v], l ascending whatever the tile's shape: the bits of
// an element do not depend on which tile computes it.
template <Left layout, int R, int V>
MOLTIDE_INLINE void multiply_tile(vf (&c)[R][V], int64_t n, const float* a, int64_t a_stride,
                                  const float* b, int64_t b_stride) {
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[i][v] = vf{};
  }
  for (int64_t l = 0; l < n; ++l) {
    vf row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load(b + l * b_stride + v * W);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const vf x = set1(layout == Left::rows ? a[i * a_stride + l] : a[l * a_stride + i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) c[i][v] = fma(x, row[v], c[i][v]);
    }
  }
}

template <Left layout, int R, int V, class Finish>
MOLTIDE_INLINE void finish_tile(int64_t row, int first, int64_t n, const float* a, int64_t a_stride,
                                const float* b, int64_t b_stride, Finish& finish) {
  vf c[R][V];
  multiply_tile<layout, R, V>(c, n, a + row * (layout == Left::rows ? a_stride : 1), a_stride,
                              b + first * W, b_stride);
  finish(row, first, c);
}

// finish(row, first vector, c[R][V]) for all register tiles of the product of `rows` (even; what
// is beyond the last row must be readable) rows by `vectors` vectors.
template <Left layout, class Finish>
static void product(int64_t rows, int vectors, int64_t n, const float* a, int64_t a_stride,
                    const float* b, int64_t b_stride, Finish finish) {
  for_vector_groups(vectors, [&]<int V>(int first) MOLTIDE_INLINED {
    constexpr int R = main_rows(V);
    int64_t row = 0;
    for (; row + R <= rows; row += R)
      finish_tile<layout, R, V>(row, first, n, a, a_stride, b, b_stride, finish);
    if (row + 4 <= rows && R > 4) {
      finish_tile<layout, 4, V>(row, first, n, a, a_stride, b, b_stride, finish);
      row += 4;
    }
    for (; row < rows; row += 2)
      finish_tile<layout, 2, V>(row, first, n, a, a_stride, b, b_stride, finish);
  });
}

// A finish for `product` that sees one element, a vector of the result, at a time.
template <class F>
MOLTIDE_INLINE auto each_element(F f) {
  return [f]<int R, int V>(int64_t row, int first, vf(&c)[R][V]) MOLTIDE_INLINED {
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) f(row + i, first + v, c[i][v]);
    }
  };
}

// 2^f for f in [-1/2, 1/2], relative error below 2e-7, exactly 1 at 0. Minimax polynomial.
MOLTIDE_INLINE vf exp2_fraction(vf f) {
  vf p = set1(0.0013211603509262204f);
  p = fma(p, f, set1(0.009671293199062347f));
  p = fma(p, f, set1(0.05550900101661682f));
  p = fma(p, f, set1(0.2402225285768509f));
  p = fma(p, f, set1(0.6931468844413757f));
  return fma(p, f, set1(1.0f));
}

// 2^x for x < 127; 0 below `lowest`, which is -126 or more; NaN stays.
MOLTIDE_INLINE vf exp2_from(vf x, float lowest) {
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf shifted = x + magic;
  const vf p = exp2_fraction(x - (shifted - magic));
  const vf y = (vf)((vi)p + ((vi)shifted << 23));
  return select(x < set1(lowest), vf{}, y);
}

// 2^x for x < 127; 0 far below zero; NaN stays.
MOLTIDE_INLINE vf exp2_bounded(vf x) {
#if defined(__AVX512F__)
  constexpr int kNearest = 8;
  const __m512 whole = _mm512_roundscale_ps((__m512)x, kNearest);
  return (vf)_mm512_scalef_ps((__m512)exp2_fraction(x - (vf)whole), whole);
#else
  return exp2_from(x, -126.0f);
#endif
}

// 2^x for x <= 0; 0 below -80, which is nothing beside the row's largest, 1, and where products
// with gradients would fall to slow subnormals.
MOLTIDE_INLINE vf exp2_nonpositive(vf x) {
  return exp2_from(x, -80.0f);
}

}  // namespace moltide::MOLTIDE_ISA
