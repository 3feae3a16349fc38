// What the CPU kernels of pool read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

namespace moltide {

enum class Pool : int32_t { mean, cls };

// Gathers (forward: packed = x, pooled = y) or spreads (backward: packed = dx, pooled = dy).
struct PoolRows {
  Pool pool;
  float* packed;
  int64_t packed_ld, cols;
  const int32_t* cu_seqlens;
  int skip_first, skip_last;
  float* pooled;
  int64_t pooled_ld;
};

}  // namespace moltide
