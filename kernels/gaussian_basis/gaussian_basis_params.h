// What the CPU kernels of gaussian_basis read and write; plain data, shared with the per-ISA
// objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

// Pairs of a block: the backward's sums over pairs run over blocks in order.
constexpr int64_t kGaussianBlock = 64;

struct GaussianRows {
  const float *mul, *bias, *means, *stds;
  const float* distances;
  const int32_t* edges;
  void* y;  // dy in the backward
  int64_t y_ld;
  DType y_type;
  int64_t pairs, basis;
  float* da;    // (P) gradient of a; backward
  float* sums;  // (blocks, 2, K): of the means, of the stds; backward
};

}  // namespace moltide
