// What the CPU kernels of rmsnorm read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct RmsNormFwd {
  const float* x;
  int64_t x_ld, cols;
  const float* w;
  float eps;
  void* y;
  int64_t y_ld;
  DType y_type;
  float* rstd;  // null: not kept
};

struct RmsNormBwd {
  const void* dy;
  int64_t dy_ld;
  DType dy_type;
  const float* x;
  int64_t x_ld, rows, cols;
  const float* w;
  const float* rstd;
  float* dx;
  int64_t dx_ld;
  bool accumulate;
  float* dw;
};

}  // namespace moltide
