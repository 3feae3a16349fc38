// What the CPU kernels of layernorm read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct LayerNormFwd {
  const void* x;
  int64_t x_ld;
  DType x_type;
  int64_t cols;
  const float* w;
  const float* b;  // null: none
  float eps;
  void* y;
  int64_t y_ld;
  DType y_type;
  float* mean;  // null: not kept
  float* rstd;
};

struct LayerNormBwd {
  const void* dy;
  int64_t dy_ld;
  DType dy_type;
  const void* x;
  int64_t x_ld;
  DType x_type;  // and dx's
  int64_t rows, cols;
  const float* w;
  const float* mean;
  const float* rstd;
  void* dx;
  int64_t dx_ld;
  bool accumulate;
  float* dw;  // null: frozen
  float* db;
};

}  // namespace moltide
