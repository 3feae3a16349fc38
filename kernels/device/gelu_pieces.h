// Polynomials in 32 pieces, for the tail of the normal distribution in GELU.
#pragma once
#include "device/simd.h"

#if defined(__AVX512F__)

namespace moltide::MOLTIDE_ISA {

// Piece n holds the coefficients, lowest first, of powers of a * kGeluPieces - n where that rounds
// to n.
constexpr float kGeluPieces = 31.0f / 5.75f;

// Piece n of a table is lane n of two vectors.
template <int kTerms>
MOLTIDE_INLINE vf gelu_piece(const float (&table)[kTerms][32], vf a) {
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf shifted = fma(a, set1(kGeluPieces), magic);
  const vf d = fma(a, set1(kGeluPieces), magic - shifted);
  const auto term = [&](int i) {
    return (vf)_mm512_permutex2var_ps(_mm512_load_ps(table[i]), (__m512i)shifted,
                                      _mm512_load_ps(table[i] + 16));
  };
  vf p = term(kTerms - 1);
#pragma GCC unroll 4
  for (int i = kTerms - 2; i >= 0; --i) p = fma(p, d, term(i));
  return p;
}

}  // namespace moltide::MOLTIDE_ISA

#endif
