// What the CPU kernel of quantize reads and writes; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct QuantizeRows {
  const void* x;
  int64_t x_ld, cols;
  DType type;
  int8_t* q;
  int64_t q_ld;
  float* scale;
};

}  // namespace moltide
