// What matmul_i8.cpp hands to the per-ISA objects: plain data, no inline functions.
#pragma once
#include <cstdint>

namespace moltide {

// Outputs per packed panel; what k is padded to.
constexpr int64_t kInt8Panel = 16;
constexpr int64_t kInt8Pad = 64;

struct MatmulI8Params {
  const int8_t* x;
  const float* x_scale;
  int64_t x_ld;
  const int8_t* w;
  const int32_t* w_offset;  // padded to whole panels, as w_scale
  const float* w_scale;
  const float* bias;
  void* y;
  int64_t y_ld;
  int64_t m, n, k;
  bool y_bf16;
  uint8_t epilogue;  // Int8Epilogue; 3: gelu, then int8
  int8_t* q;         // of epilogue 3, with q_scale
  int64_t q_ld;
  float* q_scale;
};

}  // namespace moltide
