// The exact (erf) GELU, u * Phi(u), and its slope, on vectors; Phi is the normal distribution.
// Shared by the activation op and by the matrix product's epilogue, so that both give the same
// bits.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// Phi(x) within 1e-7, and within 5e-6 of itself down to x = -13; *kernel = e^(-x^2/2).
// Near zero an odd polynomial, beyond it Mills' ratio as a polynomial in 1 / (1 + 0.35 |x|), both
// minimax fits (2e-8) computed for this file: no cancellation in the lower tail.
MOLTIDE_INLINE vf vnormal_cdf(vf x, vf* kernel) {
  const vf square = x * x;
  const vf e = vexp(set1(-0.5f) * square);
  vf near = set1(-6.809629332380977e-06f);
  near = fma(near, square, set1(0.00011104172511499844f));
  near = fma(near, square, set1(-0.0011838381027416945f));
  near = fma(near, square, set1(0.009972283381648553f));
  near = fma(near, square, set1(-0.0664902081258945f));
  near = fma(near, square, set1(0.3989422766003935f));
  near = fma(near, x, set1(0.5f));
  const vf a = vabs(x);
  const vf t = set1(1.0f) / fma(a, set1(0.35f), set1(1.0f));
  vf mills = set1(0.04438868239953862f);
  mills = fma(mills, t, set1(-0.11137511764650006f));
  mills = fma(mills, t, set1(0.04358020439081764f));
  mills = fma(mills, t, set1(0.032681670265201135f));
  mills = fma(mills, t, set1(0.08893014793074797f));
  mills = fma(mills, t, set1(0.12278901368162067f));
  mills = fma(mills, t, set1(0.13957289408612372f));
  mills = fma(mills, t, set1(0.13963326449333688f));
  const vf lower = e * (t * mills);
  const vf far = select(x < vf{}, lower, set1(1.0f) - lower);
  *kernel = e;
  // NaN compares false, so it takes the far side and stays NaN.
  return select(a < set1(1.25f), near, far);
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
