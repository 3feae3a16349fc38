// Which probabilities dropout keeps: the draws of attention.h, W queries at a time.
#pragma once
#include "attention/tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {

struct PhiloxLanes {
  vu v[4];
};

// Low and high halves of x * factor.
MOLTIDE_INLINE void multiply_wide(vu x, uint32_t factor, vu& low, vu& high) {
#if defined(__AVX512F__)
  const __m512i f = _mm512_set1_epi32(static_cast<int>(factor));
  const __m512i even = _mm512_mul_epu32((__m512i)x, f);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)x, 32), f);
  high = (vu)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
#elif defined(__AVX2__)
  const __m256i f = _mm256_set1_epi32(static_cast<int>(factor));
  const __m256i even = _mm256_mul_epu32((__m256i)x, f);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)x, 32), f);
  high = (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
#else
  for (int i = 0; i < W; ++i)
    high[i] = static_cast<uint32_t>(static_cast<uint64_t>(x[i]) * factor >> 32);
#endif
  low = x * factor;
}

// philox4x32 of core/philox.h, a counter per lane.
MOLTIDE_INLINE PhiloxLanes philox_lanes(uint64_t key, vu c0, vu c1, uint64_t counter_high) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  vu c2 = vu{} + static_cast<uint32_t>(counter_high);
  vu c3 = vu{} + static_cast<uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    vu low0, high0, low1, high1;
    multiply_wide(c0, 0xD2511F53u, low0, high0);
    multiply_wide(c2, 0xCD9E8D57u, low1, high1);
    c0 = high1 ^ c1 ^ k0;
    c2 = high0 ^ c3 ^ k1;
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// f(key row of the tile, vector, mask: all ones where kept) for n keys from first_key (a multiple
// of 4) and the queries of rows h*T + t = first_row ...
template <class F>
MOLTIDE_INLINE void for_kept(const AttentionArgs& a, int64_t first_row, int64_t first_key,
                             int64_t n, int vectors, F&& f) {
  for (int v = 0; v < vectors; ++v) {
    vu row_low, row_high;
    for (int i = 0; i < W; ++i) {
      const uint64_t counter = static_cast<uint64_t>(first_row + v * W + i) << 18;
      row_low[i] = static_cast<uint32_t>(counter);
      row_high[i] = static_cast<uint32_t>(counter >> 32);
    }
    for (int64_t j = 0; j < n; j += 4) {
      // The low 18 bits of the counter are free for the key: no carry.
      const vu low = row_low + static_cast<uint32_t>((first_key + j) / 4);
      const PhiloxLanes draw = philox_lanes(a.seed, low, row_high, a.stream);
      for (int64_t k = 0; k < 4 && j + k < n; ++k) {
        const vf uniform = __builtin_convertvector((vi)(draw.v[k] >> 8), vf) * (1.0f / 16777216.0f);
        f(j + k, v, (vi)(uniform >= set1(a.dropout)));
      }
    }
  }
}

}  // namespace moltide::MOLTIDE_ISA
