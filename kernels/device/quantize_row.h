// One row to int8 codes: the largest magnitude becomes 127, rounding is to nearest even. Neither
// step depends on the order or the width of vectors: codes are the same on every instruction set.
#pragma once
#include "device/rows.h"

namespace moltide::MOLTIDE_ISA {

typedef int8_t vb __attribute__((vector_size(W)));

// Magnitudes as integers, which order as the floats do, with Inf and then NaN above all numbers.
MOLTIDE_INLINE vi magnitude_bits(vf v) {
  return (vi)v & 0x7fffffff;
}
MOLTIDE_INLINE vi larger(vi a, vi b) {
  return a > b ? a : b;
}
MOLTIDE_INLINE int32_t reduce_larger(vi v) {
  int32_t most = 0;
  for (int i = 0; i < W; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

struct RowScale {
  float scale;    // a code's worth
  float inverse;  // codes per unit; 0: all codes are 0
};
MOLTIDE_INLINE RowScale row_scale(int32_t amax_bits) {
  constexpr float kSmallest = 0x1p-100f;  // below it 127 / amax nears the end of float's range
  if (amax_bits >= 0x7f800000) return {__builtin_nanf(""), 0.0f};
  float amax;
  std::memcpy(&amax, &amax_bits, 4);
  if (amax < kSmallest) return {0.0f, 0.0f};
  return {amax / 127.0f, 127.0f / amax};
}

// v must lie within -127.5 .. 127.5.
MOLTIDE_INLINE vb to_codes(vf v) {
#if defined(__AVX512F__)
  return (vb)_mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)v));
#else
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  return __builtin_convertvector((vi)(v + magic) - (vi)magic, vb);
#endif
}
MOLTIDE_INLINE void store_codes(int8_t* q, vf v, Whole) {
  const vb codes = to_codes(v);
  std::memcpy(q, &codes, sizeof(codes));
}
MOLTIDE_INLINE void store_codes(int8_t* q, vf v, Part part) {
  const vb codes = to_codes(v);
  std::memcpy(q, &codes, static_cast<size_t>(part.n));
}

template <class T>
MOLTIDE_INLINE int32_t row_amax_bits(const T* x, int64_t cols) {
  vi a = {}, b = {};
  int64_t i = 0;
  for (; i + 2 * W <= cols; i += 2 * W) {
    a = larger(a, magnitude_bits(load(x + i)));
    b = larger(b, magnitude_bits(load(x + i + W)));
  }
  for (; i + W <= cols; i += W) a = larger(a, magnitude_bits(load(x + i)));
  if (i < cols) b = larger(b, magnitude_bits(load_n(x + i, cols - i)));
  return reduce_larger(larger(a, b));
}

// Codes of x (cols) at q, zeros up to ld; returns the scale.
template <class T>
MOLTIDE_INLINE float write_codes(const T* x, int64_t cols, int32_t amax_bits, int8_t* q,
                                 int64_t ld) {
  const RowScale s = row_scale(amax_bits);
  if (s.inverse == 0.0f) {
    std::memset(q, 0, static_cast<size_t>(ld));
    return s.scale;
  }
  for_columns(cols,
              [&](int64_t i, auto n) { store_codes(q + i, load(x + i, n) * set1(s.inverse), n); });
  std::memset(q + cols, 0, static_cast<size_t>(ld - cols));
  return s.scale;
}

}  // namespace moltide::MOLTIDE_ISA
