// Without 8-bit dot products: codes widened to 16 bits, whose products are added in pairs. Exact:
// a pair's sum is at most 2 * 127 * 127, far from 32 bits.
#include "matmul_i8/matmul_i8_tile.h"

namespace moltide::MOLTIDE_ISA {
namespace {

struct PairStep {
  MOLTIDE_INLINE vi apply(vi acc, vi a, vi b) {
#if defined(__AVX512F__)
    return acc + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return acc + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    typedef short pairs __attribute__((vector_size(16)));
    return acc + (vi)__builtin_ia32_pmaddwd128((pairs)a, (pairs)b);
#else
    return acc + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
  }
};

struct PairKernel {
  static constexpr int64_t kRows = W == 16 ? 12 : W == 8 ? 5 : 2;
  static constexpr int kPanels = W == 16 ? 2 : 1;
  static constexpr int kBytes = 2;
  static constexpr int kWidened = 2;
  static constexpr bool kDirect = false;

  static void begin() {}
  static void end() {}

  MOLTIDE_INLINE void copy_row(const int8_t* from, int64_t k, char* to) {
    int16_t* wide = reinterpret_cast<int16_t*>(to);
    for (int64_t i = 0; i < k; ++i) wide[i] = from[i];
  }
  // [k/4][16][4] codes to [k/2][16][2] of 16 bits.
  MOLTIDE_INLINE void widen(const char* from, int64_t bytes, char* to) {
    const vi low = vi{} + 0xffff;
    for (int64_t i = 0; i < bytes; i += 64, to += 128)
      for (int j = 0; j < 64; j += 4 * W) {
        const vi v = load_lanes(from + i + j);
        const vi first = ((v << 24 >> 24) & low) | (v << 16 >> 24 << 16);
        const vi second = ((v << 8 >> 24) & low) | (v >> 24 << 16);
        std::memcpy(to + j, &first, sizeof(vi));
        std::memcpy(to + 64 + j, &second, sizeof(vi));
      }
  }
  MOLTIDE_INLINE void tile(int panels, const char* a, int64_t row_bytes, const char* b,
                           int64_t panel_bytes, int64_t k, const int32_t*, int32_t* c) {
    if (panels == kPanels)
      i8_tile<PairStep, kRows, kPanels>(a, row_bytes, b, panel_bytes, k / 2, nullptr, c);
    else
      i8_tile<PairStep, kRows, 1>(a, row_bytes, b, panel_bytes, k / 2, nullptr, c);
  }
};

}  // namespace

void matmul_i8_run(const MatmulI8Params& p) {
  i8_blocked<PairKernel>(p);
}

int64_t matmul_i8_loop(int64_t n, char* sink) {
  i8_loop<PairStep>(n, sink);
  return n * (W == 16 ? 16 : 8) * W * 4;
}

}  // namespace moltide::MOLTIDE_ISA
