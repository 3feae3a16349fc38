// What the CPU kernels of mlp_act read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

enum class Activation : int32_t { gelu, swiglu, relu, tanh };

struct ActivationRows {
  Activation activation;
  DType type;
  int64_t cols;  // F, of y; u has twice as many with swiglu
  const void* u;
  int64_t u_ld;
  const void* dy;  // backward alone
  int64_t dy_ld;
  void* out;  // y forward, du backward
  int64_t out_ld;
  float beta;   // swiglu
  float* rows;  // (T) a row's part of dbeta; swiglu_bwd_beta alone
};

}  // namespace moltide
