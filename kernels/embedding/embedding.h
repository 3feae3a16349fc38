// embedding: x[t] = table[tokens[t]] * scale[t] + positions[position[t] + position_offset]
// Shapes    tokens position (T) int32; scale (T) f32; table dtable (V, C); positions dpositions
//           (P, C); x dx (T, C), any row stride
// Types     all f32
// Writes    fwd x =;  bwd dtable +=, dpositions +=
// Null      scale (all ones); positions, dpositions empty (no learned positions: position unread);
//           dtable empty (frozen)
// Needs     0 <= tokens[t] < V and 0 <= position[t] + position_offset < P; else refused with t
// Repeat    dtable and dpositions sum over T in one order whatever the threads
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

// Token dropout of ESM-2 (Lin et al. 2023): masked tokens embed as zero and the others are scaled
// up to what training saw: scale[t] = 0 at mask_token, else (1 - mask_ratio_train) / (1 - m / L)
// with m of the sequence's L positions (specials included) masked. cu_seqlens (batch + 1).
void token_dropout_scale(const int32_t* tokens, const int32_t* cu_seqlens, int64_t batch,
                         int32_t mask_token, float mask_ratio_train, float* scale);

void embedding_fwd(const int32_t* tokens, const float* scale, const int32_t* position,
                   int64_t position_offset, const Tensor& table, const Tensor& positions,
                   const Tensor& x);
void embedding_bwd(const int32_t* tokens, const float* scale, const int32_t* position,
                   int64_t position_offset, const Tensor& dx, const Tensor& dtable,
                   const Tensor& dpositions);

}  // namespace moltide
