// float32 beyond what the multiply-add units give: Winograd's inner product (IEEE Transactions on
// Computers C-17, 1968). With pairs x0 x1 of a row and y0 y1 of a column,
//   x0 y0 + x1 y1 = (x0 + y1)(x1 + y0) - x0 x1 - y0 y1:
// one multiplication in place of two, and two additions, which processors whose adders are units of
// their own do meanwhile. The pairs' own products are summed once a row and once a column; signs
// alternate, so that these sums do not grow with the means. Two of three panels take it:
// multipliers and adders have the same work then, two thirds of the plain product's.
#pragma once
#include "device/rows.h"
#include "matmul/matmul_blocks.h"
#include "matmul/matmul_vector.h"

namespace moltide::MOLTIDE_ISA {

// Which panels take pairs: of three next to each other, the first and the last.
MOLTIDE_INLINE constexpr bool takes_pairs(int64_t panel) {
  return panel % kVectorPanels != 1;
}

// Operands that the arithmetic instruction itself reads: a broadcast by an instruction of its own
// would occupy one of the units.
MOLTIDE_INLINE vf add_broadcast(const char* x, vf y) {
  vf v;
  asm("vaddps %2%{1to16%}, %1, %0" : "=v"(v) : "v"(y), "m"(*reinterpret_cast<const float*>(x)));
  return v;
}
MOLTIDE_INLINE vf minus_broadcast(vf y, const char* x) {
  vf v;
  asm("vsubps %2%{1to16%}, %1, %0" : "=v"(v) : "v"(y), "m"(*reinterpret_cast<const float*>(x)));
  return v;
}
MOLTIDE_INLINE vf fma_broadcast(const char* x, vf y, vf acc) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0"
      : "+v"(acc)
      : "v"(y), "m"(*reinterpret_cast<const float*>(x)));
  return acc;
}
MOLTIDE_INLINE vf minus_product(vf a, vf b, vf acc) {
  return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)acc);
}

// Two k of rows at `a`; kMinus: (y1 - x0)(y0 - x1), the pairs' own products with the other sign.
template <bool kMinus, int MR, int NP>
MOLTIDE_INLINE void pair_step(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                              vf (&acc)[MR][NP]) {
  vf y0[NP], y1[NP];
#pragma GCC unroll 4
  for (int j = 0; j < NP; ++j) {
    y0[j] = load_vector(b + j * panel_bytes);
    y1[j] = load_vector(b + j * panel_bytes + 64);
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
    const char *x0 = a + i * row_bytes, *x1 = x0 + 4;
#pragma GCC unroll 4
    for (int j = 0; j < NP; ++j) {
      if (!takes_pairs(j))
        acc[i][j] = fma_broadcast(x1, y1[j], fma_broadcast(x0, y0[j], acc[i][j]));
      else if (kMinus)
        acc[i][j] =
            minus_product(minus_broadcast(y1[j], x0), minus_broadcast(y0[j], x1), acc[i][j]);
      else
        acc[i][j] = fma(add_broadcast(x0, y1[j]), add_broadcast(x1, y0[j]), acc[i][j]);
    }
  }
}

// What is left of k after whole fours goes the plain way.
struct WinogradStep : FusedMultiplyAdd {
  template <int MR, int NP, bool kPackedA>
  MOLTIDE_INLINE void four(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                           vf (&acc)[MR][NP]) {
    static_assert(!kPackedA);
    pair_step<false>(a, row_bytes, b, panel_bytes, acc);
    pair_step<true>(a + 8, row_bytes, b + 128, panel_bytes, acc);
  }
};

// What a row is multiplied by on its way in and its sums on their way out, and the sum of its own
// pairs' products.
struct WinogradRow {
  float scale, inverse, pairs;
};

// A power of two that brings the row's values to the size `size`: the sum of a row's and a column's
// value loses little of either then.
MOLTIDE_INLINE WinogradRow winograd_row(const float* x, int64_t n, float size) {
  constexpr int kMost = 125;  // its inverse is a normal number too
  vf largest = {};
  const float squares = sum_columns(n, [&](int64_t i, auto part) {
    const vf v = load(x + i, part);
    largest = vmax(largest, vabs(v));
    return v * v;
  });
  const bool in_range = squares > 1e-30f && squares < 1e30f;
  const float own =
      in_range ? __builtin_sqrtf(squares / static_cast<float>(n)) : reduce_max(largest);
  // Nothing but zeros gives zeros, though a column's own products leave a rounding error.
  if (own == 0) return {1.0f, 0.0f, 0.0f};
  if (!__builtin_isfinite(own)) return {1.0f, 1.0f, 0.0f};
  const int wanted = __builtin_ilogbf(size) - __builtin_ilogbf(own);
  const int exponent = wanted < -kMost ? -kMost : wanted > kMost ? kMost : wanted;
  return {__builtin_ldexpf(1.0f, exponent), __builtin_ldexpf(1.0f, -exponent), 0.0f};
}

// The two values of each pair swapped.
MOLTIDE_INLINE vf neighbours(vf v) {
  return (vf)_mm512_permute_ps((__m512)v, 0b10110001);
}

// A row's values [0, n) into scratch times its scale; the products of its pairs, whole fours alone.
MOLTIDE_INLINE void scale_row(const float* from, int64_t n, WinogradRow& row, float* to) {
  const vf scale = set1(row.scale);
  // Every product comes twice.
  vf signs;
  for (int i = 0; i < W; ++i) signs[i] = i % 4 < 2 ? 0.5f : -0.5f;
  const int64_t paired = n / 4 * 4;
  row.pairs += sum_columns(n, [&](int64_t i, auto part) {
    const vf v = load(from + i, part) * scale;
    store(to + i, v, part);
    const vf own = i + count_of(part) <= paired ? v : load_n(to + i, paired - i);
    return own * neighbours(own) * signs;
  });
}

// The rows of a block, as matmul_blocks.h asks for them.
class ScaledRows {
 public:
  static constexpr bool kAllCopied = true;
  static int64_t bytes(int64_t rows) { return rows * static_cast<int64_t>(sizeof(WinogradRow)); }
  ScaledRows(const MatmulParams& p, void* memory)
      : k_(p.k),
        columns_(p.sums.pairs),
        size_(*p.sums.size),
        row_(static_cast<WinogradRow*>(memory)) {}

  void copy(int64_t i, const char* from, int64_t k0, int64_t n, int64_t, char* to) {
    const float* x = reinterpret_cast<const float*>(from);
    if (k0 == 0) row_[i] = winograd_row(x, k_, size_);
    scale_row(x, n, row_[i], reinterpret_cast<float*>(to));
  }
  // The sums of a tile become what the plain product gives.
  void finish(int64_t first_row, int64_t rows, int64_t panel, int panels, float* sum,
              int64_t ld) const {
    for (int j = 0; j < panels; ++j) {
      const vf column = load(columns_ + (panel + j) * kPanel);
      for (int64_t i = 0; i < rows; ++i) {
        const WinogradRow& row = row_[first_row + i];
        float* at = sum + i * ld + j * kPanel;
        vf v = load(at);
        if (takes_pairs(j)) v = v - (set1(row.pairs) + column);
        store(at, v * set1(row.inverse));
      }
    }
  }

 private:
  int64_t k_;
  const float* columns_;
  float size_;
  WinogradRow* row_;
};

struct WinogradKernel : VectorKernel<WinogradStep, 1, float, false> {
  using Rows = ScaledRows;
};

}  // namespace moltide::MOLTIDE_ISA
