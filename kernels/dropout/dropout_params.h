// What the CPU kernels of dropout read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct DropoutRows {
  const void* x;
  int64_t x_ld;
  void* y;
  int64_t y_ld, cols;
  DType type;
  float p;
  uint64_t seed, stream;
};

}  // namespace moltide
