// attention: o = dropout(softmax(scale * q k^T)) v, per sequence and head, both directions; the
// L x L matrix is never stored: tiles, at need the online softmax (Milakov & Gimelshein 2018, Dao
// 2023).
// Shapes    q k v o dout dq dk dv (T, H*D), any row stride ld >= H*D, all f32 or all bf16;
//           lse (H, T) f32: natural log of each query's sum of exp(scale * q k^T);
//           between arguments and results everything is float32, but where there are
//           instructions for bf16 (see Bf16);
//           sequences lie end to end: sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1], from 0
//           to T
// Writes    fwd o =, lse = (null: not wanted);  bwd dq =, dk =, dv =;  probs =
// Dropout   probability (query row t, key j of its sequence, head h) is kept, times 1 / (1 - p),
//           iff philox_uniform >= p at key = seed, counter_low = (h*T + t) * 2^18 + j/4,
//           counter_high = stream, lane j%4; the backward draws the same numbers again
// Aliasing  none
// Needs     D a multiple of 4 in 4..256; sequences of at most 2^20 tokens; else refused in
//           attention.cpp. Empty sequences and B = 0 are legal
// Workspace attention_bwd_workspace(T, H) bytes, 4-byte aligned
// Memory    tiles, in the backward and with bf16 instructions O(L * D), per thread
//           (thread_scratch): never L x L
// Forward   exponentials of scores minus their row's first, or their mean, or 2^100 less than q and
//           the place of the keys allow, whichever is most (on amx 2^64, without the mean); where
//           terms may be lost so, minus the largest score so far
// Bf16      on amx and avx512_bf16: scores and all sums in float32; exponentials within 8e-5 of
//           themselves. Forward: they are rounded to bf16 for the product with v; o is divided by
//           the sum of the rounded, lse has that of the unrounded. Backward: the probabilities and
//           the gradients of the scores (without the factor scale) are rounded to bf16 for the
//           products into dv, dq and dk
// Coarse    forward without dropout and lse only. On amx with bf16 the exponentials may be one
//           unit of bf16 from themselves (0.8 %, 0.3 % root mean square); elsewhere as without it
// Special   denormal numbers count as 0 everywhere: probabilities far below their row's largest are
//           common in trained models, and each would cost as much as a hundred numbers
// Repeat    bit-identical for a sequence whatever the batch, its place and the thread count;
//           with dropout the draws depend on the row t, hence on the place
// Error     tests/tolerances.py; a probability below 2^-36 (bf16: 2^-26) may count as 0
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct AttentionParams {
  const int32_t* cu_seqlens;  // (B+1), ascending
  int64_t batch;
  int64_t heads;
  int64_t head_dim;
  float scale;      // of the scores, 1/sqrt(D) unless the caller scaled q
  float dropout;    // of the probabilities, 0 <= p < 1; 0 costs nothing
  uint64_t seed;    // Philox key
  uint64_t stream;  // Philox counter, high half
  bool coarse;      // for products whose own rounding is coarser (int8)
};

void attention_fwd(const AttentionParams& params, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& o, float* lse);

int64_t attention_bwd_workspace(int64_t tokens, int64_t heads);

// o and lse as the forward wrote them, under the same params.
void attention_bwd(const AttentionParams& params, const Tensor& dout, const Tensor& q,
                   const Tensor& k, const Tensor& v, const Tensor& o, const float* lse,
                   const Tensor& dq, const Tensor& dk, const Tensor& dv, void* workspace);

// The probabilities themselves, (H, L, L) f32, for one sequence: q and k (L, H*D). No dropout.
void attention_probs(const Tensor& q, const Tensor& k, int64_t heads, int64_t head_dim, float scale,
                     float* probs);

}  // namespace moltide
