// What the CPU kernel of layernorm_quantize reads and writes; plain data, shared with the per-ISA
// objects.
#pragma once
#include <cstdint>

namespace moltide {

struct LayerNormQuantize {
  const float* x;
  int64_t x_ld, cols;
  const float* w;
  const float* b;
  float eps;
  int8_t* q;
  int64_t q_ld;
  float* scale;
};

}  // namespace moltide
