// pool: one row per sequence
//   mean  y[b] = mean of x over positions cu[b] + skip_first .. cu[b+1] - skip_last (the residues)
//   cls   y[b] = x[cu[b]]
//   A sequence with no such position gives zeros.
// Shapes    x dx (T, C), y dy (B, C), any row stride; cu_seqlens (B + 1) int32, cu[B] = T
// Types     all f32
// Writes    fwd y =;  bwd dx = over all T rows, zeros where a position took no part
// Repeat    y[b] has the same bits whatever the batch and the threads
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"
#include "pool/pool_params.h"

namespace moltide {

void pool_fwd(Pool pool, const Tensor& x, const int32_t* cu_seqlens, int64_t batch, int skip_first,
              int skip_last, const Tensor& y);
void pool_bwd(Pool pool, const Tensor& dy, const int32_t* cu_seqlens, int64_t batch, int skip_first,
              int skip_last, const Tensor& dx);

}  // namespace moltide
