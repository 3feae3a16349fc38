// Philox4x32-10 (core/philox.h) for W consecutive counters at once: the same draws, in vectors.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

typedef uint64_t vu64 __attribute__((vector_size(W * 4)));  // W / 2 lanes

// a[0] b[0] a[1] b[1] ... of the lower and the upper halves.
#if defined(__AVX512F__)
MOLTIDE_INLINE vu zip_low(vu a, vu b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
MOLTIDE_INLINE vu zip_high(vu a, vu b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
MOLTIDE_INLINE vu64 zip_low(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
MOLTIDE_INLINE vu64 zip_high(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#elif defined(__AVX2__)
MOLTIDE_INLINE vu zip_low(vu a, vu b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
MOLTIDE_INLINE vu zip_high(vu a, vu b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
MOLTIDE_INLINE vu64 zip_low(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
MOLTIDE_INLINE vu64 zip_high(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#else
MOLTIDE_INLINE vu zip_low(vu a, vu b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
MOLTIDE_INLINE vu zip_high(vu a, vu b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
MOLTIDE_INLINE vu64 zip_low(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 0, 2);
}
MOLTIDE_INLINE vu64 zip_high(vu64 a, vu64 b) {
  return __builtin_shufflevector(a, b, 1, 3);
}
#endif

// The 64-bit products of the even lanes of a with m.
MOLTIDE_INLINE vu64 multiply_even(vu64 a, vu64 m) {
#if defined(__AVX512F__)
  return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)m);
#elif defined(__AVX2__)
  return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)m);
#else
  return (a & 0xffffffffull) * m;
#endif
}

MOLTIDE_INLINE void multiply(vu a, uint32_t factor, vu* low, vu* high) {
  const vu64 m = vu64{} + factor;
  const vu64 even = multiply_even((vu64)a, m);
  const vu64 odd = multiply_even((vu64)a >> 32, m);
  *low = (vu)((even & 0xffffffffull) | (odd << 32));
  *high = (vu)((even >> 32) | (odd & 0xffffffff00000000ull));
}

// A block of four words per lane.
struct PhiloxLanes {
  vu v[4];
};

// philox4x32 of core/philox.h with the low counter c1:c0 of each lane.
MOLTIDE_INLINE PhiloxLanes philox_lanes(uint64_t key, vu c0, vu c1, uint64_t counter_high) {
  vu c2 = vu{} + static_cast<uint32_t>(counter_high);
  vu c3 = vu{} + static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    vu low0, high0, low2, high2;
    multiply(c0, 0xD2511F53u, &low0, &high0);
    multiply(c2, 0xCD9E8D57u, &low2, &high2);
    c0 = high2 ^ c1 ^ k0;
    c2 = high0 ^ c3 ^ k1;
    c1 = low2;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Uniforms in [0, 1) of counters counter_low ... counter_low + W - 1, four a counter, in order:
// uniform[j][k] is draw j * W + k.
MOLTIDE_INLINE void philox_uniforms(uint64_t key, uint64_t counter_low, uint64_t counter_high,
                                    vf uniform[4]) {
  const vu first = vu{} + static_cast<uint32_t>(counter_low);
  vu c0 = first;
  for (int i = 0; i < W; ++i) c0[i] += static_cast<uint32_t>(i);
  const vu carry = (vu)(c0 < first);  // all ones, minus one, where the low word wrapped
  const vu c1 = vu{} + static_cast<uint32_t>(counter_low >> 32) - carry;
  const PhiloxLanes block = philox_lanes(key, c0, c1, counter_high);
  const vu64 low01 = (vu64)zip_low(block.v[0], block.v[1]);
  const vu64 high01 = (vu64)zip_high(block.v[0], block.v[1]);
  const vu64 low23 = (vu64)zip_low(block.v[2], block.v[3]);
  const vu64 high23 = (vu64)zip_high(block.v[2], block.v[3]);
  const vu words[4] = {(vu)zip_low(low01, low23), (vu)zip_high(low01, low23),
                       (vu)zip_low(high01, high23), (vu)zip_high(high01, high23)};
  for (int j = 0; j < 4; ++j)
    uniform[j] = __builtin_convertvector((vi)(words[j] >> 8), vf) * set1(1.0f / 16777216.0f);
}

}  // namespace moltide::MOLTIDE_ISA
