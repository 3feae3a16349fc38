// What the CPU kernels of residual read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct RowPair {
  const void* from;
  int64_t from_ld;
  DType from_type;
  void* to;
  int64_t to_ld;
  DType to_type;
  int64_t cols;
  float scale;  // of `from`; residual_add alone
};

}  // namespace moltide
