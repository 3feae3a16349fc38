// Register tiles on vectors: which shapes fit, and the kernels that the blocked loops run.
#pragma once
#include <type_traits>

#include "matmul/matmul_blocks.h"
#include "matmul/matmul_params.h"
#include "matmul/matmul_tile.h"

namespace moltide::MOLTIDE_ISA {

// Rows of a tile by its panels: 24 sums of 32 registers with 16 floats each, or 12 of 16. One panel
// of kVectorInnerK steps stays in the L1 cache; three pass through it.
#if defined(__AVX512F__)
constexpr int64_t kVectorInnerK = 480;
constexpr int kVectorPanels = 3;
constexpr int kVectorRows[] = {0, 12, 12, 8};
constexpr int kVectorRowAlign = 24;
#elif defined(__AVX2__)
constexpr int64_t kVectorInnerK = 320;
constexpr int kVectorPanels = 1;
constexpr int kVectorRows[] = {0, 6};
constexpr int kVectorRowAlign = 6;
#else
constexpr int64_t kVectorInnerK = 320;
constexpr int kVectorPanels = 1;
constexpr int kVectorRows[] = {0, 2};
constexpr int kVectorRowAlign = 2;
#endif

// kStepK: k (or tokens) that one step of the tile takes, 1 or 2 (pairs of bf16).
template <class Step, int kStepK, class Input, bool kWiden>
struct VectorKernel {
  using In = Input;
  static constexpr int kInBytes = sizeof(In);
  static constexpr bool kConvert = kWiden;
  using Rows = std::conditional_t<kWiden, WidenedRows, RowsAsTheyAre<kInBytes>>;
  static constexpr int kPad = kStepK;
  static constexpr int kMaxPanels = kVectorPanels;
  static constexpr int kRowAlign = kVectorRowAlign;
  // W's panels are widened anew for every block of rows.
  static constexpr int64_t kBlockRows = kWiden ? 192 : 96;
  static constexpr int64_t kInnerK = kVectorInnerK * kStepK;
  static constexpr int64_t kBlockK = 4 * kInnerK;

  static void begin() {}
  static void end() {}
  MOLTIDE_INLINE int rows(int panels) { return kVectorRows[panels]; }

  MOLTIDE_INLINE void tile(int panels, const char* a, int64_t row_bytes, const char* b,
                           int64_t panel_bytes, int64_t k, float* c, int64_t ldc, bool first,
                           Ahead ahead) {
    const int64_t n = div_up(k, kStepK);
    switch (panels) {
#if defined(__AVX512F__)
      case 3:
        return run<3>(a, row_bytes, b, panel_bytes, n, c, ldc, first, ahead);
      case 2:
        return run<2>(a, row_bytes, b, panel_bytes, n, c, ldc, first, ahead);
#endif
      default:
        return run<1>(a, row_bytes, b, panel_bytes, n, c, ldc, first, ahead);
    }
  }

 private:
  template <int NP>
  MOLTIDE_INLINE void run(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                          int64_t n, float* c, int64_t ldc, bool first, Ahead ahead) {
    moltide::MOLTIDE_ISA::tile<Step, kVectorRows[NP], NP, false>(a, row_bytes, b, panel_bytes, n, c,
                                                                 ldc, first, ahead);
  }
};

MOLTIDE_INLINE float to_float(float v) {
  return v;
}
MOLTIDE_INLINE float to_float(bf16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// Rows of `kCols` values as float32, one after the other; columns from `cols` on are zero.
template <int kCols, class In>
MOLTIDE_INLINE void pack_floats(const char* from, int64_t ld_bytes, int64_t tokens, int64_t cols,
                                char* to) {
  float* out = reinterpret_cast<float*>(to);
  for (int64_t t = 0; t < tokens; ++t, from += ld_bytes, out += kCols) {
    const In* row = reinterpret_cast<const In*>(from);
    if (cols == kCols) {
#pragma GCC unroll 16
      for (int i = 0; i < kCols; ++i) out[i] = to_float(row[i]);
    } else {
      for (int i = 0; i < kCols; ++i) out[i] = i < cols ? to_float(row[i]) : 0.0f;
    }
  }
}

// Pairs of rows of bf16, interleaved value by value; an odd last row is paired with zeros.
template <int kCols>
MOLTIDE_INLINE void pack_pairs(const char* from, int64_t ld_bytes, int64_t tokens, int64_t cols,
                               char* to) {
  uint32_t* out = reinterpret_cast<uint32_t*>(to);
  for (int64_t t = 0; t < tokens; t += 2, from += 2 * ld_bytes, out += kCols) {
    uint16_t low[kCols] = {}, high[kCols] = {};
    const size_t bytes = static_cast<size_t>(cols) * 2;
    if (cols == kCols) {
      std::memcpy(low, from, sizeof(low));
      if (t + 1 < tokens) std::memcpy(high, from + ld_bytes, sizeof(high));
    } else {
      std::memcpy(low, from, bytes);
      if (t + 1 < tokens) std::memcpy(high, from + ld_bytes, bytes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCols; ++i)
      out[i] = static_cast<uint32_t>(low[i]) | static_cast<uint32_t>(high[i]) << 16;
  }
}

template <class Step, int kStepK, class Input>
struct VectorDwKernel {
  using In = Input;
  static constexpr int kInBytes = sizeof(In);
  static constexpr int64_t kTokens = 512 * kStepK;
  static constexpr int64_t kPackTokens = 8;
  static constexpr int kStepTokens = kStepK;
  static constexpr int kTokenBytes = 4 / kStepK;
  static constexpr int kHeight = kVectorRows[kVectorPanels];
  static constexpr int kMaxPanels = kVectorPanels;

  static void begin() {}
  static void end() {}

  template <int kCols>
  MOLTIDE_INLINE void pack(const char* from, int64_t ld_bytes, int64_t tokens, int64_t cols,
                           char* to) {
    if constexpr (kStepK == 2)
      pack_pairs<kCols>(from, ld_bytes, tokens, cols, to);
    else
      pack_floats<kCols, In>(from, ld_bytes, tokens, cols, to);
  }
  MOLTIDE_INLINE void pack_a(const char* dy, int64_t ld_bytes, int64_t tokens, int64_t cols,
                             char* to) {
    pack<kHeight>(dy, ld_bytes, tokens, cols, to);
  }
  MOLTIDE_INLINE void pack_b(const char* x, int64_t ld_bytes, int64_t tokens, int64_t cols,
                             char* to) {
    pack<16>(x, ld_bytes, tokens, cols, to);
  }
  MOLTIDE_INLINE void tile(int panels, const char* a, const char* b, int64_t panel_bytes, int64_t n,
                           float* c, int64_t ldc, Ahead ahead) {
    switch (panels) {
#if defined(__AVX512F__)
      case 3:
        return run<3>(a, b, panel_bytes, n, c, ldc, ahead);
      case 2:
        return run<2>(a, b, panel_bytes, n, c, ldc, ahead);
#endif
      default:
        return run<1>(a, b, panel_bytes, n, c, ldc, ahead);
    }
  }

 private:
  template <int NP>
  MOLTIDE_INLINE void run(const char* a, const char* b, int64_t panel_bytes, int64_t n, float* c,
                          int64_t ldc, Ahead ahead) {
    moltide::MOLTIDE_ISA::tile<Step, kHeight, NP, true>(a, 0, b, panel_bytes, n, c, ldc, true,
                                                        ahead);
  }
};

// Twelve independent chains, operands in registers: what one core's multiply-adds reach.
template <class Step>
MOLTIDE_INLINE int64_t peak_loop(int64_t n, float* sink) {
  constexpr int kChains = 12;
  vf sum[kChains];
  for (int j = 0; j < kChains; ++j) sum[j] = load(sink + j * W);
  const vf a = load(sink), b = load(sink + W);
  for (int64_t i = 0; i < n; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kChains; ++j) sum[j] = Step::apply(sum[j], a, b);
  for (int j = 0; j < kChains; ++j) store(sink + j * W, sum[j]);
  return n * kChains * W;
}

}  // namespace moltide::MOLTIDE_ISA
