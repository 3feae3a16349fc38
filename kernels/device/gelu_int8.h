// GELU for results that are rounded to 8 bits at once: within 2e-4 of the erf form everywhere, and
// within 4e-4 u^2 near zero. A code is amax / 127 wide, so this is a small part of its rounding.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// u * Phi(t), t = u held within +-3.9; Phi(t) = 0.5 + t P(t^2), a minimax fit of u^2 P computed for
// this file that is 0 and 1 at the ends. NaN stays NaN.
MOLTIDE_INLINE vf vgelu_int8(vf u) {
  const vf t = vmin(vmax(u, set1(-3.9f)), set1(3.9f));
  const vf s = t * t;
  vf p = set1(2.8899956393544633e-08f);
  p = fma(p, s, set1(-1.9144116581077608e-06f));
  p = fma(p, s, set1(5.435068680896437e-05f));
  p = fma(p, s, set1(-0.0008781494284832558f));
  p = fma(p, s, set1(0.00910182906163361f));
  p = fma(p, s, set1(-0.06537168857978429f));
  p = fma(p, s, set1(0.39856544522844706f));
  return u * fma(p, t, set1(0.5f));
}

}  // namespace moltide::MOLTIDE_ISA
