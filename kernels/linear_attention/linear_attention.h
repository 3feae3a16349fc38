// linear_attention: attention whose cost is linear in the length (Katharopoulos et al. 2020) with
// generalised random features (Choromanski et al. 2021), as MoLFormer has it (Ross et al. 2022).
// Per sequence and head, x^+ = max(x, 0), i over queries and j over keys of the sequence:
//   o_i = (q_i w)^+ S / max((q_i w)^+ . s, eps),   S = sum_j (k_j w)^+T v_j,   s = sum_j (k_j w)^+
// that is o_i = sum_j p_ij v_j with p_ij = (q_i w)^+ . (k_j w)^+ / max(their sum over j, eps).
// Shapes    q k v o dout dq dk dv (T, H*D), any row stride ld >= H*D, all f32 or all bf16; w (D, M)
//           f32, the same for all heads, no gradient; what is between arguments and results is
//           float32;
//           sequences lie end to end: sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1], from 0
//           to T
// Writes    fwd o =;  bwd dq =, dk =, dv =;  probs =
// Gradient  of max(x, 0) at 0 is 0; of a normaliser below eps is 0. The backward computes features
//           and sums again: the forward keeps nothing for it
// Aliasing  none
// Needs     D a multiple of 4 in 4..256; M in 1..256; eps > 0; else refused in
//           linear_attention.cpp. Empty sequences and B = 0 are legal
// Memory    tiles of 256 rows, S and its gradient, per thread (thread_scratch)
// Cost      fwd 8, bwd 18 (20 beyond 256 rows) operations for each of T * H * D * M
// Special   denormal numbers count as 0
// Repeat    bit-identical for a sequence whatever the batch, its place and the thread count: sums
//           over rows go in order within 256 rows, then over these
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct LinearAttentionParams {
  const int32_t* cu_seqlens;  // (B+1), ascending
  int64_t batch;
  int64_t heads;
  int64_t head_dim;
  int64_t features;  // M
  float eps;         // least normaliser
};

void linear_attention_fwd(const LinearAttentionParams& params, const Tensor& q, const Tensor& k,
                          const Tensor& v, const float* w, const Tensor& o);

void linear_attention_bwd(const LinearAttentionParams& params, const Tensor& dout, const Tensor& q,
                          const Tensor& k, const Tensor& v, const float* w, const Tensor& dq,
                          const Tensor& dk, const Tensor& dv);

// The weights p themselves, (H, L, L) f32, for one sequence: q and k (L, H*D).
void linear_attention_probs(const Tensor& q, const Tensor& k, const float* w, int64_t heads,
                            int64_t head_dim, int64_t features, float eps, float* probs);

}  // namespace moltide
