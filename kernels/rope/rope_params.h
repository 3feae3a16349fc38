// What the CPU kernels of rope read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct RopeRows {
  void* x;
  int64_t x_ld;
  DType x_type;
  const int32_t* position;
  int64_t heads, half;  // half: of the head dimension
  const float* cos;
  const float* sin;
  bool inverse;
};

}  // namespace moltide
