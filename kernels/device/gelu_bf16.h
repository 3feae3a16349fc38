// GELU and its slope of bf16 values, for results that are rounded to bf16: shorter polynomials
// than float32 needs, over all values, and a table for the slope as well. Shared by the activation
// op and by the matrix product's epilogue, so that both give the same bits.
#pragma once
#include "device/gelu.h"

namespace moltide::MOLTIDE_ISA {

#if defined(__AVX512F__)

// Phi(-a) and Phi(-a) - a phi(a) over a >= 0 for gelu_piece; minimax fits computed for this file.
// From a = 5.66 on zero.
// clang-format off
alignas(64) static const float kGeluTailBf16[4][32] = {
    {0.5f, 0.42642486f, 0.35533094f, 0.28895128f, 0.22906344f, 0.17685463f, 0.13287516f,
     0.097077295f, 0.06892164f, 0.04752356f, 0.031809613f, 0.020659061f, 0.013013521f,
     0.00794804f, 0.004705139f, 0.0026990639f, 0.0014999488f, 8.0736127e-4f, 4.2082672e-4f,
     2.1237676e-4f, 1.03755476e-4f, 4.906302e-5f, 2.2453367e-5f, 9.9435765e-6f, 4.260812e-6f,
     1.7664022e-6f, 7.084294e-7f, 2.748395e-7f, 1.0313493e-7f, 3.7432407e-8f, 1.3139494e-8f, 0},
    {-0.073997505f, -0.072735205f, -0.06907679f, -0.063383766f, -0.056193016f, -0.04813325f,
     -0.03983516f, -0.031852722f, -0.024608504f, -0.018368876f, -0.013247645f, -0.009231104f,
     -0.0062148008f, -0.0040425863f, -0.0025406776f, -0.0015427563f, -9.0511184e-4f,
     -5.130552e-4f, -2.8098494e-4f, -1.486824e-4f, -7.601409e-5f, -3.754799e-5f, -1.7919974e-5f,
     -8.263156e-6f, -3.6813938e-6f, -1.5846601e-6f, -6.590485e-7f, -2.6482311e-7f,
     -1.02813836e-7f, -3.8565965e-8f, -1.3976994e-8f, 0},
    {9.4672e-7f, 0.0012485646f, 0.0023716812f, 0.0032647254f, 0.003859799f, 0.004133651f,
     0.004106331f, 0.0038319458f, 0.0033846176f, 0.0028434151f, 0.002279579f, 0.0017481731f,
     0.0012846644f, 9.058334e-4f, 6.134929e-4f, 3.9941986e-4f, 2.501472e-4f, 1.5077941e-4f,
     8.751105e-5f, 4.8923877e-5f, 2.6354428e-5f, 1.3682918e-5f, 6.84853e-6f, 3.305197e-6f,
     1.5383498e-6f, 6.906178e-7f, 2.9909185e-7f, 1.2497064e-7f, 5.0384244e-8f, 1.9602288e-8f,
     7.360063e-9f, 0},
    {4.224215e-4f, 4.016253e-4f, 3.4050603e-4f, 2.4991197e-4f, 1.4401326e-4f, 3.8010538e-5f,
     -5.4823176e-5f, -1.2532952e-4f, -1.6943393e-4f, -1.8786962e-4f, -1.8495963e-4f,
     -1.6697275e-4f, -1.4050509e-4f, -1.11272566e-4f, -8.344696e-5f, -5.950927e-5f,
     -4.0475676e-5f, -2.631177e-5f, -1.6372436e-5f, -9.763245e-6f, -5.5849314e-6f,
     -3.067261e-6f, -1.6184821e-6f, -8.2102594e-7f, -4.006115e-7f, -1.8810408e-7f,
     -8.502442e-8f, -3.7008306e-8f, -1.5516212e-8f, -6.2677117e-9f, -2.4398454e-9f, 0},
};
alignas(64) static const float kGeluSlopeTailBf16[5][32] = {
    {0.5f, 0.35368943f, 0.21717691f, 0.09879933f, 0.004290533f, -0.06381252f, -0.1061366f,
     -0.12589233f, -0.12794662f, -0.11779617f, -0.10066633f, -0.080882296f, -0.061563186f,
     -0.044604704f, -0.03086361f, -0.020441754f, -0.012981523f, -0.007914423f, -0.0046368497f,
     -0.0026125854f, -0.0014165398f, -7.3946035e-4f, -3.7179844e-4f, -1.8011742e-4f,
     -8.409782e-5f, -3.785307e-5f, -1.6428437e-5f, -6.8762074e-6f, -2.7760536e-6f,
     -1.0811673e-6f, -4.0625335e-7f, 0},
    {-0.14799462f, -0.14296803f, -0.12864755f, -0.107141696f, -0.08145382f, -0.054867063f,
     -0.030332597f, -0.010008029f, 0.004967665f, 0.014451537f, 0.019082166f, 0.019965976f,
     0.018359687f, 0.015419531f, 0.012050846f, 0.00885675f, 0.0061614416f, 0.004075061f,
     0.0025701483f, 0.0015492636f, 8.940632e-4f, 4.946007e-4f, 2.6256358e-4f, 1.3386604e-4f,
     6.559336e-5f, 3.0906525e-5f, 1.4010353e-5f, 6.1127025e-6f, 2.567759e-6f, 1.0388269e-6f,
     4.0486864e-7f, 0},
    {-1.3156717e-6f, 0.0049618855f, 0.00917921f, 0.012071259f, 0.013337782f, 0.012999272f,
     0.011353783f, 0.008876229f, 0.0060894657f, 0.003450326f, 0.0012752096f, -2.8454853e-4f,
     -0.0012241156f, -0.001640157f, -0.001678453f, -0.0014891578f, -0.0011976009f,
     -8.916238e-4f, -6.2181096e-4f, -4.0917355e-4f, -2.552936e-4f, -1.5154514e-4f,
     -8.580361e-5f, -4.6425772e-5f, -2.40408e-5f, -1.192861e-5f, -5.676754e-6f, -2.5931322e-6f,
     -1.1377638e-6f, -4.7976283e-7f, -1.9451673e-7f, 0},
    {0.0017044949f, 0.0015646875f, 0.0012079106f, 7.0015265e-4f, 1.4571293e-4f, -3.5137893e-4f,
     -7.135185e-4f, -9.0300426e-4f, -9.2426536e-4f, -8.1415207e-4f, -6.260588e-4f,
     -4.137263e-4f, -2.1932845e-4f, -6.789817e-5f, 3.230715e-5f, 8.556265e-5f, 1.0302605e-4f,
     9.767224e-5f, 8.0877304e-5f, 6.0828675e-5f, 4.2363336e-5f, 2.7622902e-5f, 1.6981712e-5f,
     9.889764e-6f, 5.474623e-6f, 2.8878906e-6f, 1.4544734e-6f, 7.0047275e-7f, 3.2297572e-7f,
     1.4271775e-7f, 6.048929e-8f, 0},
    {-1.6498358e-5f, -6.3590305e-5f, -1.1266121e-4f, -1.3765921e-4f, -1.3527893e-4f,
     -1.1065995e-4f, -6.991872e-5f, -2.5443891e-5f, 1.3173734e-5f, 3.9703304e-5f, 5.2164607e-5f,
     5.2240815e-5f, 4.3825785e-5f, 3.1390442e-5f, 1.8711658e-5f, 8.219489e-6f, 9.343567e-7f,
     -3.2068124e-6f, -4.8801417e-6f, -4.9507394e-6f, -4.1922144e-6f, -3.1605728e-6f,
     -2.181809e-6f, -1.399932e-6f, -8.4253736e-7f, -4.7849204e-7f, -2.5750984e-7f,
     -1.3173066e-7f, -6.4205175e-8f, -2.9870037e-8f, -1.328362e-8f, 0},
};
// clang-format on

// Within 2^-15 of the exact value relatively, or 2e-7 of it. Denormals become zero: here, or where
// the instruction that rounds to bf16 does so.
MOLTIDE_INLINE vf vgelu(vf u, const bf16*) {
  constexpr int kSmallerMagnitude = 0b1010;
  // Of a NaN the limit; it comes through by the second operand of vmax.
  const vf a = (vf)_mm512_range_ps((__m512)u, (__m512)set1(5.75f), kSmallerMagnitude);
  const vf g = fma(-a, gelu_piece(kGeluTailBf16, a), vmax(vf{}, u));
#if defined(__AVX512BF16__)
  return g;
#else
  constexpr int kDenormal = 0x20;
  const __mmask16 tiny = _mm512_fpclass_ps_mask((__m512)g, kDenormal);
  return (vf)_mm512_mask_and_ps((__m512)g, tiny, (__m512)g, _mm512_set1_ps(-0.0f));
#endif
}
// Within 3e-7.
MOLTIDE_INLINE vf vgelu_slope(vf u, const bf16*) {
  const vf tail = gelu_piece(kGeluSlopeTailBf16, vmin(set1(5.75f), vabs(u)));
  return select(u < vf{}, tail, set1(1.0f) - tail);
}

#else

MOLTIDE_INLINE vf vgelu(vf u, const bf16*) {
  return vgelu(u);
}
MOLTIDE_INLINE vf vgelu_slope(vf u, const bf16*) {
  return vgelu_slope(u);
}

#endif

MOLTIDE_INLINE vf vgelu(vf u, const float*) {
  return vgelu(u);
}
MOLTIDE_INLINE vf vgelu_slope(vf u, const float*) {
  return vgelu_slope(u);
}

}  // namespace moltide::MOLTIDE_ISA
