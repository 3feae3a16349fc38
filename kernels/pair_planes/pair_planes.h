// pair_planes: a row of values for each pair of tokens, one for each head, against a plane of pairs
// for each head: how a projection writes them and how attention_pair_bias reads them
// Shapes    rows (N, H), any row stride: pairs first .. first + N of all, those of sequence b being
//           pair_starts[b] .. pair_starts[b+1] (ascending from 0); planes f32: (H, pairs) for each
//           sequence, one after the other, that of sequence b from element H * pair_starts[b]
// Types     rows f32 or bf16; planes f32
// Writes    to_planes planes =;  from_planes rows =, rounded once
// Needs     0 <= first and first + N <= pair_starts[B], else refused
// Repeat    moves values: exact where rows are f32
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct PairPlaces {
  const int64_t* pair_starts;  // (B+1)
  int64_t batch;
};

void pairs_to_planes(const PairPlaces& places, const Tensor& rows, int64_t first, float* planes);
void planes_to_pairs(const PairPlaces& places, const float* planes, int64_t first,
                     const Tensor& rows);

}  // namespace moltide
