// attention_pair_bias: s = scale * q k^T + bias; o = dropout(softmax(s)) v, per sequence and head.
// The scores s are kept: they are the next layer's bias (Uni-Mol: Zhou et al., ICLR 2023).
// Shapes    q k v o dout dq dk dv (T, H*D), any row stride ld >= H*D, all f32 or all bf16;
//           sequences lie end to end: sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1], from 0
//           to T;
//           bias scores dscores f32: a plane (L, L) for each sequence and head, L its tokens, keys
//           as rows: [key][query]; planes of a sequence lie one after the other, those of sequence
//           b from element H * pair_starts[b], pair_starts (B+1) being the sums of L^2 before it;
//           statistics (2, H, T) f32: each query's largest score m, then 1 / sum of exp(s - m);
//           between arguments and results everything is float32
// Writes    fwd o =, scores =, statistics = (null: not wanted);
//           bwd dq =, dk =, dv =, dscores = (+= when `accumulate`): with the gradient that the next
//           layer's bias has in dscores, what is there afterwards is the gradient of this bias
//           probs = (H, L, L) with queries as rows, of one sequence's scores
// Dropout   the draws of attention/attention.h; the backward makes them again
// Aliasing  scores may be bias
// Needs     D a multiple of 4 in 4..256; sequences of at most 2^20 tokens; else refused in
//           attention_pair_bias.cpp. Empty sequences and B = 0 are legal
// Memory    per thread O(L * (D + 32)), thread_scratch
// Special   a score of -inf has probability 0; a query whose scores are all -inf becomes NaN.
//           Denormal numbers count as 0
// Repeat    bit-identical for a sequence whatever the batch, its place and the thread count; with
//           dropout the draws depend on the row t, hence on the place
// Error     tests/tolerances.py; a probability below e^-87 of its row's largest counts as 0
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct PairBiasParams {
  const int32_t* cu_seqlens;   // (B+1), ascending
  const int64_t* pair_starts;  // (B+1)
  int64_t batch;
  int64_t heads;
  int64_t head_dim;
  float scale;      // of the products, 1/sqrt(D) unless the caller scaled q
  float dropout;    // of the probabilities, 0 <= p < 1; 0 costs nothing
  uint64_t seed;    // Philox key
  uint64_t stream;  // Philox counter, high half
};

void attention_pair_bias_fwd(const PairBiasParams& params, const Tensor& q, const Tensor& k,
                             const Tensor& v, const float* bias, const Tensor& o, float* scores,
                             float* statistics);

// scores and statistics as the forward wrote them, under the same params.
void attention_pair_bias_bwd(const PairBiasParams& params, const Tensor& dout, const Tensor& q,
                             const Tensor& k, const Tensor& v, const float* scores,
                             const float* statistics, const Tensor& dq, const Tensor& dk,
                             const Tensor& dv, float* dscores, bool accumulate);

void attention_pair_bias_probs(const float* scores, int64_t heads, int64_t length, float* probs);

}  // namespace moltide
