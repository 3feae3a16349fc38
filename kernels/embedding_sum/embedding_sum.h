// embedding_sum: x[t] += scale * sum over f of table[ids[t, f]], for things that several categories
// describe
// Shapes    ids (N, F) int16, rows `stride` apart, -1: none; table dtable (V, C); x dx (N, C), any
//           row stride
// Types     all f32
// Writes    fwd x +=;  bwd dtable +=
// Needs     -1 <= ids[t, f] < V, else refused with t and f
// Repeat    dtable sums over N in one order whatever the threads
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct CategoryIds {
  const int16_t* ids;
  int64_t stride;
  int64_t count;  // F
};

void embedding_sum_fwd(const CategoryIds& ids, float scale, const Tensor& table, const Tensor& x);
void embedding_sum_bwd(const CategoryIds& ids, float scale, const Tensor& dx, const Tensor& dtable);

}  // namespace moltide
