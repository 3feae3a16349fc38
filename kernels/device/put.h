// Results of matrix products on their way to memory.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// Rounds to y's type and stores; on bf16 hardware in one instruction, which takes a denormal for
// zero as the products do.
template <class Y>
MOLTIDE_INLINE void put(Y* y, vf v, int64_t n) {
  n >= W ? store(y, v) : store_n(y, v, n);
}
#if defined(__AVX512BF16__)
MOLTIDE_INLINE __m256i rounded_bf16(vf v) {
  return (__m256i)_mm512_cvtneps_pbh((__m512)v);
}
MOLTIDE_INLINE void put(bf16* y, vf v, int64_t n) {
  const __m256i rounded = rounded_bf16(v);
  if (n >= W)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), rounded);
  else
    _mm256_mask_storeu_epi16(y, static_cast<__mmask16>((1u << n) - 1), rounded);
}
#endif

}  // namespace moltide::MOLTIDE_ISA
