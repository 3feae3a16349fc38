// What the CPU kernels of pair_planes read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

constexpr int64_t kPairBlock = 256;

// Blocks of kPairBlock pairs lie `heads` high in planes whose rows are `plane_ld` apart.
struct PairBlock {
  void* rows;
  int64_t rows_ld;
  DType rows_type;
  float* plane;  // of the block's first pair, head 0
  int64_t plane_ld, pairs, heads;
};

}  // namespace moltide
