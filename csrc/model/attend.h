// The attention of a block, between its projections: what is done to q and k, and the kind of
// attention. A new kind is another case in attend.cpp, with the memory it needs in activations.cpp.
#pragma once
#include "model/linear.h"

namespace moltide {

// a.ctx = attention of what the projections gave (a.q_raw, a.k_raw, a.v). a.q and a.k are written.
// coarse: as AttentionParams has it.
void attend_forward(const PassContext& pass, int64_t layer, const LayerActivations& a, bool coarse);

// ws.dctx -> ws.dq, ws.dk, ws.dv, the gradients of what the projections gave.
void attend_backward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                     const Workspace& ws);

// The probabilities of sequence b after its block's forward, with q, k (and scores) still there:
// out (H, L, L), rows of queries.
void attention_map(const PassContext& pass, int64_t layer, const LayerActivations& a, int64_t b,
                   float* out);

}  // namespace moltide
