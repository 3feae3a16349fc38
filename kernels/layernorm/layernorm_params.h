// What the CPU kernels of layernorm read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct LayerNormFwd {
  const float* x;
  int64_t x_ld, cols;
  const float* w;
  const float* b;
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
  const float* x;
  int64_t x_ld, rows, cols;
  const float* w;
  const float* mean;
  const float* rstd;
  float* dx;
  int64_t dx_ld;
  bool accumulate;
  float* dw;  // null: frozen
  float* db;
};

}  // namespace moltide
