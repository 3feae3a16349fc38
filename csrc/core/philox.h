// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC11). A draw is a pure function of (key, counter): no state, any order, any device.
#pragma once
#include <cstdint>

namespace moltide {

struct PhiloxBlock {
  uint32_t v[4];
};

static inline PhiloxBlock philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0;
    const uint64_t p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1) with 24 bits.
static inline float philox_uniform(uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

// What a stream of draws is for; with the step and the layer it forms the counter's high half, so
// that no two uses in a run share a draw.
enum class RandomSite : uint32_t {
  embedding_dropout = 1,
  attention_branch_dropout = 2,
  mlp_branch_dropout = 3,
  attention_dropout = 4,
  lora_dropout = 5,  // + index of the projection, up to 7 of them
  head_dropout = 16,
  masking = 17,
  initialisation = 18,
  shuffle = 19,
  random_features = 20,
  pair_outer_dropout = 21,
  pair_triangle_dropout = 22,
  pair_mlp_dropout = 23,
};

static inline uint64_t random_stream(uint64_t step, uint32_t layer, uint32_t site) {
  return (step << 24) | (static_cast<uint64_t>(layer & 0xffffu) << 8) | (site & 0xffu);
}

}  // namespace moltide
