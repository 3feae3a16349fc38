// VNNI: four products of an unsigned and a signed byte added to 32 bits (without saturation). x is
// made unsigned by adding 128; the sums start from -128 times W's column sums.
#pragma once
#include "matmul_i8/matmul_i8_tile.h"

namespace moltide::MOLTIDE_ISA {
namespace {

struct DotStep {
  MOLTIDE_INLINE vi apply(vi acc, vi a, vi b) {
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
  }
};

struct DotKernel {
  static constexpr int64_t kRows = 12;
  static constexpr int kPanels = 2;
  static constexpr int kBytes = 1;
  static constexpr int kWidened = 1;
  static constexpr bool kDirect = false;

  static void begin() {}
  static void end() {}

  MOLTIDE_INLINE void copy_row(const int8_t* from, int64_t k, char* to) {
    for (int64_t i = 0; i < k; i += 64) {
      const __m512i codes = _mm512_loadu_si512(from + i);
      _mm512_storeu_si512(to + i, _mm512_xor_si512(codes, _mm512_set1_epi8(-128)));
    }
  }
  MOLTIDE_INLINE void tile(int panels, const char* a, int64_t row_bytes, const char* b,
                           int64_t panel_bytes, int64_t k, const int32_t* start, int32_t* c) {
    if (panels == kPanels)
      i8_tile<DotStep, kRows, kPanels>(a, row_bytes, b, panel_bytes, k / 4, start, c);
    else
      i8_tile<DotStep, kRows, 1>(a, row_bytes, b, panel_bytes, k / 4, start, c);
  }
};

}  // namespace

void matmul_i8_run(const MatmulI8Params& p) {
  i8_blocked<DotKernel>(p);
}

int64_t matmul_i8_loop(int64_t n, char* sink) {
  i8_loop<DotStep>(n, sink);
  return n * 16 * W * 8;
}

}  // namespace moltide::MOLTIDE_ISA
