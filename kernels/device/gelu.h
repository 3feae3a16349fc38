// The exact (erf) GELU, u * Phi(u), and its slope, on vectors; Phi is the normal distribution.
// Shared by the activation op and by the matrix product's epilogue, so that both give the same
// bits.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// e^x for x <= 0, relative error below 1e-7; 0 below -87.7; NaN stays. Polynomial: a minimax fit
// (3e-9) with 1 + x exact.
MOLTIDE_INLINE vf vexp_nonpositive(vf x) {
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf lowest = set1(-88.0f);
  const vf clamped = lowest > x ? lowest : x;
  const vf shifted = fma(clamped, set1(1.44269504088896341f), magic);
  const vf n = shifted - magic;
  vf r = fma(-n, set1(0.693145751953125f), clamped);
  r = fma(-n, set1(1.42860682030941723e-6f), r);
  vf p = set1(0.0013814519223516375f);
  p = fma(p, r, set1(0.00836875635699071f));
  p = fma(p, r, set1(0.04166839184561637f));
  p = fma(p, r, set1(0.16666520306291238f));
  p = fma(p, r, set1(0.49999993425950834f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  // n >= -127, whose exponent bits are those of zero.
  return p * (vf)(((vi)shifted - ((vi)magic - 127)) << 23);
}

// Phi(x) within 1e-7, and within 5e-6 of itself down to x = -13; *kernel = e^(-x^2/2).
// Near zero an odd polynomial, beyond it Mills' ratio as a polynomial in t = 1 / (1 + 0.3 |x|),
// both minimax fits (2e-9) computed for this file: no cancellation in the lower tail.
MOLTIDE_INLINE vf vnormal_cdf(vf x, vf* kernel) {
  const vf square = x * x;
  const vf e = vexp_nonpositive(set1(-0.5f) * square);
  vf near = set1(0.00010181342076975852f);
  near = fma(near, square, set1(-0.0011798528721556067f));
  near = fma(near, square, set1(0.0099717415869236f));
  near = fma(near, square, set1(-0.06649019569158554f));
  near = fma(near, square, set1(0.3989422619342804f));
  near = fma(near, x, set1(0.5f));
  const vf a = vabs(x);
  const vf t = set1(1.0f) / fma(a, set1(0.3f), set1(1.0f));
  vf mills = set1(0.03516869992017746f);
  mills = fma(mills, t, set1(-0.1559351682662964f));
  mills = fma(mills, t, set1(0.2053266018629074f));
  mills = fma(mills, t, set1(-0.053579699248075485f));
  mills = fma(mills, t, set1(0.12885360419750214f));
  mills = fma(mills, t, set1(0.09974385052919388f));
  mills = fma(mills, t, set1(0.12079112976789474f));
  mills = fma(mills, t, set1(0.11962637305259705f));
  const vf lower = e * (t * mills);
  const vf far = x < vf{} ? lower : set1(1.0f) - lower;
  *kernel = e;
  // NaN compares false, so it takes the far side and stays NaN.
  return a < set1(0.75f) ? near : far;
}

MOLTIDE_INLINE vf vgelu(vf u) {
  vf kernel;
  return u * vnormal_cdf(u, &kernel);
}

// d gelu / du = Phi(u) + u * phi(u), phi the normal density.
MOLTIDE_INLINE vf vgelu_slope(vf u) {
  vf kernel;
  const vf cdf = vnormal_cdf(u, &kernel);
  return fma(u * kernel, set1(0.3989422804014327f), cdf);
}

}  // namespace moltide::MOLTIDE_ISA
