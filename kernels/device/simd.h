// Vectors of W floats in GCC/Clang vector extensions; compiled once per instruction set, everything
// in that set's namespace and always inlined. Sources are compiled with -ffp-contract=off: only
// fma() fuses.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/dtype.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef MOLTIDE_ISA
#error "simd.h is for sources compiled per instruction set: define MOLTIDE_ISA"
#endif

#define MOLTIDE_INLINE static inline __attribute__((always_inline))

namespace moltide::MOLTIDE_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef uint32_t vu __attribute__((vector_size(W * 4)));
typedef uint16_t vh __attribute__((vector_size(W * 2)));

MOLTIDE_INLINE vf set1(float x) {
  return x - vf{};
}
MOLTIDE_INLINE vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
MOLTIDE_INLINE void store(float* p, vf v) {
  std::memcpy(p, &v, sizeof(v));
}
MOLTIDE_INLINE vf load(const bf16* p) {
#if defined(__AVX512F__)
  // The compiler widens in halves.
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
#else
  vh h;
  std::memcpy(&h, p, sizeof(h));
  return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}
// Round to nearest even; NaN stays NaN.
MOLTIDE_INLINE vh to_bf16(vf v) {
  const vu u = (vu)v;
#if defined(__AVX512BW__)
  const __m512i bits = (__m512i)(u + 0x7fffu + ((u >> 16) & 1u));
  const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_set1_epi32(0x400000);
  const __m512i rounded = _mm512_mask_or_epi32(bits, nan, (__m512i)v, quiet);
  alignas(64) static const uint16_t kHigh[32] = {1,  3,  5,  7,  9,  11, 13, 15,
                                                 17, 19, 21, 23, 25, 27, 29, 31};
  return (vh)_mm512_castsi512_si256(_mm512_permutexvar_epi16(_mm512_load_si512(kHigh), rounded));
#else
  const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const vu nan = (u >> 16) | 0x40u;
  const vi is_nan = (vi)((u & 0x7fffffffu) > (vu{} + 0x7f800000u));
  const vu bits = (vu)(((vi)nan & is_nan) | ((vi)rounded & ~is_nan));
  return __builtin_convertvector(bits, vh);
#endif
}
MOLTIDE_INLINE void store(bf16* p, vf v) {
  const vh h = to_bf16(v);
  std::memcpy(p, &h, sizeof(h));
}
// The first n < W elements; the rest read as zero and are not written.
template <class T>
MOLTIDE_INLINE vf load_n(const T* p, int64_t n) {
  T buffer[W] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return load(buffer);
}
template <class T>
MOLTIDE_INLINE void store_n(T* p, vf v, int64_t n) {
  T buffer[W];
  store(buffer, v);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(T));
}
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
MOLTIDE_INLINE vf load_n(const float* p, int64_t n) {
  return (vf)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
MOLTIDE_INLINE vf load_n(const bf16* p, int64_t n) {
  const __m256i h = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1), p);
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16);
}
MOLTIDE_INLINE void store_n(float* p, vf v, int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
}
MOLTIDE_INLINE void store_n(bf16* p, vf v, int64_t n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1), (__m256i)to_bf16(v));
}
#elif defined(__AVX2__)
MOLTIDE_INLINE __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
MOLTIDE_INLINE vf load_n(const float* p, int64_t n) {
  return (vf)_mm256_maskload_ps(p, first_lanes(n));
}
MOLTIDE_INLINE void store_n(float* p, vf v, int64_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), (__m256)v);
}
#endif

MOLTIDE_INLINE vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
MOLTIDE_INLINE vf select(vi mask, vf yes, vf no) {
  return mask ? yes : no;
}
// b where either is NaN.
MOLTIDE_INLINE vf vmax(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}
MOLTIDE_INLINE vf vmin(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#else
  return a < b ? a : b;
#endif
}
MOLTIDE_INLINE vf vabs(vf a) {
  return (vf)((vi)a & 0x7fffffff);
}
MOLTIDE_INLINE vf vsqrt(vf a) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)a);
#else
  for (int i = 0; i < W; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}

// Fixed tree: the sum of a vector has one order on each instruction set.
MOLTIDE_INLINE float reduce_add(vf v) {
  float t[W];
  store(t, v);
#pragma GCC unroll 4
  for (int step = W / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) t[i] += t[i + step];
  return t[0];
}
MOLTIDE_INLINE float reduce_max(vf v) {
  float t[W];
  store(t, v);
#pragma GCC unroll 4
  for (int step = W / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) t[i] = t[i] > t[i + step] ? t[i] : t[i + step];
  return t[0];
}

// e^x, relative error below 2e-7 for x in [-87, 88]; 0 below -87.3, inf above 88.7; NaN stays.
MOLTIDE_INLINE vf vexp(vf x) {
  const vf log2e = set1(1.44269504088896341f);
  const vf ln2_high = set1(0.693145751953125f);
  const vf ln2_low = set1(1.42860682030941723e-6f);
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf clamped = vmin(vmax(x, set1(-88.0f)), set1(89.0f));
  const vf shifted = fma(clamped, log2e, magic);
  const vf n = shifted - magic;
  vf r = fma(-n, ln2_high, clamped);
  r = fma(-n, ln2_low, r);
  vf p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  // Two halves of the exponent, so that 2^n never leaves the range of a float on the way.
  const vi whole = (vi)shifted - (vi)magic;
  const vi half = whole >> 1;
  const vf scale_a = (vf)((half + 127) << 23);
  const vf scale_b = (vf)((whole - half + 127) << 23);
  vf y = p * scale_a * scale_b;
  y = select(x < set1(-87.33654f), vf{}, y);
  y = select(x > set1(88.72283f), set1(__builtin_inff()), y);
  return select(x != x, x, y);
}

}  // namespace moltide::MOLTIDE_ISA
