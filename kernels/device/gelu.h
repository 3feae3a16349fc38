// The exact (erf) GELU, u * Phi(u), and its slope, on vectors; Phi is the normal distribution.
// Shared by the activation op and by the matrix product's epilogue, so that both give the same
// bits.
#pragma once
#include "device/gelu_pieces.h"

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

#if defined(__AVX512F__)

// Phi(-a) over 0 <= a < 5.657 for gelu_piece, within 2e-6 of itself; minimax fits computed for this
// file.
// clang-format off
alignas(64) static const float kGeluTail[6][32] = {
    {0.5f, 0.42642477f, 0.35533077f, 0.28895107f, 0.22906321f, 0.17685442f, 0.132875f, 0.097077176f,
     0.06892158f, 0.04752354f, 0.03180963f, 0.020659104f, 0.013013574f, 0.007948095f, 0.0047051883f,
     0.0026991048f, 0.0014999805f, 8.0738426e-4f, 4.208424e-4f, 2.1238693e-4f, 1.0376175e-4f,
     4.9066704e-5f, 2.2455437e-5f, 9.94469e-6f, 4.2613856e-6f, 1.7666853e-6f, 7.085637e-7f,
     2.749006e-7f, 1.03161675e-7f, 3.7443662e-8f, 1.3144048e-8f, 0},
    {-0.073997356f, -0.07273533f, -0.06907693f, -0.06338392f, -0.056193173f, -0.04813339f,
     -0.039835267f, -0.031852785f, -0.024608525f, -0.018368855f, -0.013247596f, -0.009231036f,
     -0.0062147295f, -0.0040425225f, -0.002540628f, -0.0015427236f, -9.050938e-4f, -5.130474e-4f,
     -2.8098281e-4f, -1.486827e-4f, -7.601504e-5f, -3.754889e-5f, -1.7920618e-5f, -8.263562e-6f,
     -3.6816293e-6f, -1.5847882e-6f, -6.5911433e-7f, -2.6485532e-7f, -1.0282885e-7f, -3.857267e-8f,
     -1.3979858e-8f, 0},
    {-3.1060818e-10f, 0.0012512008f, 0.0023765375f, 0.0032710114f, 0.0038665654f, 0.004139981f,
     0.0041115074f, 0.0038355507f, 0.0033865536f, 0.002843853f, 0.0022788711f, 0.0017467304f,
     0.0012828808f, 9.040211e-4f, 6.118596e-4f, 3.9807218e-4f, 2.4911258e-4f, 1.5003342e-4f,
     8.7002794e-5f, 4.859529e-5f, 2.6152225e-5f, 1.35642e-5f, 6.7819096e-6f, 3.2694122e-6f,
     1.5199304e-6f, 6.81524e-7f, 2.9478218e-7f, 1.2300885e-7f, 4.9526008e-8f, 1.9241279e-8f,
     7.2139934e-9f, 0},
    {4.2430678e-4f, 4.0271773e-4f, 3.4158025e-4f, 2.509081e-4f, 1.4484448e-4f, 3.860977e-5f,
     -5.4489927e-5f, -1.2525951e-4f, -1.6959128e-4f, -1.8819315e-4f, -1.8537948e-4f, -1.6741602e-4f,
     -1.409099e-4f, -1.1159558e-4f, -8.366773e-5f, -5.963086e-5f, -4.0519837e-5f, -2.6308548e-5f,
     -1.6348698e-5f, -9.73629e-6f, -5.5626388e-6f, -3.0514998e-6f, -1.6084024e-6f, -8.1503975e-7f,
     -3.9726484e-7f, -1.8632959e-7f, -8.4128175e-8f, -3.657598e-8f, -1.5316688e-8f, -6.179499e-9f,
     -2.4024494e-9f, 0},
    {-9.277358e-9f, -1.0615703e-5f, -1.9463225e-5f, -2.5182111e-5f, -2.710776e-5f, -2.5362935e-5f,
     -2.0742553e-5f, -1.4446983e-5f, -7.758271e-6f, -1.7565459e-6f, 2.85639e-6f, 5.803841e-6f,
     7.17194e-6f, 7.283922e-6f, 6.5612016e-6f, 5.409545e-6f, 4.149139e-6f, 2.9890998e-6f,
     2.035132e-6f, 1.3151008e-6f, 8.090389e-7f, 4.749177e-7f, 2.6648493e-7f, 1.4313235e-7f,
     7.367189e-8f, 3.6371787e-8f, 1.723689e-8f, 7.846295e-9f, 3.4325767e-9f, 1.4438786e-9f,
     5.84216e-10f, 0},
    {-2.1771261e-6f, -1.999848e-6f, -1.489262e-6f, -7.698663e-7f, 2.4760531e-9f, 6.753168e-7f,
     1.1373698e-6f, 1.3400497e-6f, 1.2985098e-6f, 1.0754231e-6f, 7.555737e-7f, 4.2077846e-7f,
     1.321559e-7f, -7.729349e-8f, -2.0082844e-7f, -2.5032654e-7f, -2.4689712e-7f, -2.1286695e-7f,
     -1.6667443e-7f, -1.2079607e-7f, -8.192702e-8f, -5.236325e-8f, -3.168985e-8f, -1.8221858e-8f,
     -9.980499e-9f, -5.21738e-9f, -2.607158e-9f, -1.2469261e-9f, -5.7137167e-10f, -2.510574e-10f,
     -1.05856456e-10f, 0},
};
// clang-format on

// Beyond the table few values lie; a vector with one takes both ways and each lane its own.
MOLTIDE_INLINE vf vgelu(vf u) {
  const vf a = vabs(u);
  const vf near = fma(-a, gelu_piece(kGeluTail, a), vmax(vf{}, u));
  const __mmask16 far = _mm512_cmp_ps_mask((__m512)a, (__m512)set1(5.65f), _CMP_NLE_UQ);
  if (__builtin_expect(far == 0, 1)) return near;
  vf kernel;
  const vf exact = u * vnormal_cdf(u, &kernel);
  return (vf)_mm512_mask_blend_ps(far, (__m512)near, (__m512)exact);
}

#else

MOLTIDE_INLINE vf vgelu(vf u) {
  vf kernel;
  return u * vnormal_cdf(u, &kernel);
}

#endif

// d gelu / du = Phi(u) + u * phi(u), phi the normal density.
MOLTIDE_INLINE vf vgelu_slope(vf u) {
  vf kernel;
  const vf cdf = vnormal_cdf(u, &kernel);
  return fma(u * kernel, set1(0.3989422804014327f), cdf);
}

}  // namespace moltide::MOLTIDE_ISA
