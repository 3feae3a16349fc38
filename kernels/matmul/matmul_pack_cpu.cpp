// Packed panels, W x W values of the weight at a time. The same bits on every instruction set.
#include "device/prefetch.h"
#include "device/simd.h"
#include "device/transpose.h"
#include "matmul/matmul_params.h"

namespace moltide::MOLTIDE_ISA {

// How many of W elements from `at` on lie before `end`.
MOLTIDE_INLINE int64_t left(int64_t end, int64_t at) {
  return end - at < 0 ? 0 : end - at < W ? end - at : W;
}

MOLTIDE_INLINE vf load_some(const float* p, int64_t n) {
  return n == W ? load(p) : n > 0 ? load_n(p, n) : vf{};
}

// row[s] = scale * W(k + s -> n + j) for j < W; zero beyond the matrix.
MOLTIDE_INLINE void read_block(const PackParams& p, int64_t n, int64_t k, vf (&row)[W]) {
  const vf scale = set1(p.scale);
  const int64_t outer = p.transpose ? left(p.k, k) : left(p.n, n);
  const int64_t inner = p.transpose ? left(p.n, n) : left(p.k, k);
  const float* from = p.w + (p.transpose ? k * p.ld + n : n * p.ld + k);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) row[i] = i < outer ? scale * load_some(from + i * p.ld, inner) : vf{};
  if (!p.transpose) transpose(row);
}

// Asks for what is read 64 steps after k, in the next panel where this one ends: rows far apart,
// which no hardware foresees.
MOLTIDE_INLINE void ask_ahead(const PackParams& p, int64_t n, int64_t k, int64_t padded) {
  constexpr int64_t kAhead = 4 * kPanel;
  const bool here = k + kAhead < padded;
  const int64_t row = here ? n : n + kPanel, col = here ? k + kAhead : k + kAhead - padded;
  prefetch_rows<false>(p.w + (p.transpose ? col * p.ld + row : row * p.ld + col), p.ld * 4, kPanel,
                       kPanel * 4);
}

MOLTIDE_INLINE vu bf16_bits(vf v) {
  return __builtin_convertvector(to_bf16(v), vu);
}

// A panel's PackedSums, in float64: exact products have the same sum on every instruction set.
class PanelSums {
 public:
  // k and k + 1 of the j-th vector of outputs; sign 0: a pair that the product takes plainly.
  __attribute__((always_inline)) void add(int64_t j, vf even, vf odd, double sign) {
    const vd a = __builtin_convertvector(even, vd), b = __builtin_convertvector(odd, vd);
    squares_[j] += a * a;
    squares_[j] += b * b;
    pairs_[j] += a * b * sign;
  }
  void write(const PackedSums& to, int64_t panel) const {
    double squares = 0;
    for (int i = 0; i < kPanel; ++i) {
      to.pairs[panel * kPanel + i] = static_cast<float>(pairs_[i / W][i % W]);
      squares += squares_[i / W][i % W];
    }
    to.squares[panel] = squares;
  }

 private:
  typedef double vd __attribute__((vector_size(W * 8)));
  vd pairs_[kPanel / W] = {};
  vd squares_[kPanel / W] = {};
};

void pack_panels(const PackParams& p, int64_t begin, int64_t end) {
  const int64_t padded = p.bf16 ? (p.k + kBf16Pad - 1) / kBf16Pad * kBf16Pad : p.k;
  const int64_t paired = p.k / 4 * 4;
  for (int64_t panel = begin; panel < end; ++panel) {
    PanelSums sums;
    for (int64_t k = 0; k < padded; k += W) {
      if (k % kPanel == 0) ask_ahead(p, panel * kPanel, k, padded);
      for (int64_t j = 0; j < kPanel; j += W) {
        vf row[W];
        read_block(p, panel * kPanel + j, k, row);
        if (p.bf16) {
          uint32_t* out = static_cast<uint32_t*>(p.out) + (panel * padded + k) * kPanel / 2 + j;
#pragma GCC unroll 16
          for (int s = 0; s < W; s += 2) {
            const vu pairs = bf16_bits(row[s]) | bf16_bits(row[s + 1]) << 16;
            std::memcpy(out + s / 2 * kPanel, &pairs, sizeof(pairs));
          }
        } else {
          float* out = static_cast<float*>(p.out) + (panel * padded + k) * kPanel + j;
          const int64_t rows = left(padded, k);
#pragma GCC unroll 16
          for (int s = 0; s < W; ++s)
            if (s < rows) store(out + s * kPanel, row[s]);
          if (!p.sums.pairs) continue;
#pragma GCC unroll 8
          for (int s = 0; s < W; s += 2) {
            const double sign = s % 4 == 0 ? 1.0 : -1.0;
            sums.add(j / W, row[s], row[s + 1], k + s < paired ? sign : 0.0);
          }
        }
      }
    }
    if (p.sums.pairs) sums.write(p.sums, panel);
  }
}

}  // namespace moltide::MOLTIDE_ISA
