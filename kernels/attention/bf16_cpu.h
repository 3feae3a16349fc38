// What the kernels with bf16 instructions share.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// The first n of `size` elements, 32 or 16; none if n < 1.
template <class Mask>
MOLTIDE_INLINE Mask first_elements(int64_t n) {
  constexpr int kSize = sizeof(Mask) * 8;
  return static_cast<Mask>(n >= kSize ? ~uint64_t{0} : n <= 0 ? 0 : (uint64_t{1} << n) - 1);
}

// 32 floats as bf16, in order.
MOLTIDE_INLINE __m512i to_bf16_pair(vf low, vf high) {
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

// 2^x, relative error below 8e-5, a twenty-fifth of what rounding it to bf16 costs; 0 far below
// zero, inf far above, NaN stays. Minimax polynomial of degree 3 on [0, 1].
MOLTIDE_INLINE vf exp2_for_bf16(vf x) {
  constexpr int kFloor = 9;
  const vf f = (vf)_mm512_reduce_ps((__m512)x, kFloor);
  vf p = set1(0.07802452147006989f);
  p = fma(p, f, set1(0.22606715559959412f));
  p = fma(p, f, set1(0.6958335638046265f));
  p = fma(p, f, set1(0.9999251961708069f));
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);
}

}  // namespace moltide::MOLTIDE_ISA
