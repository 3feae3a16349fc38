// Linear attention of a block (kernels/linear_attention), with the features it was stored with or
// those drawn for a training step.
#pragma once
#include "linear_attention/linear_attention.h"
#include "model/linear.h"

namespace moltide {

LinearAttentionParams linear_params(const PassContext& pass);
// (D, M) of a layer.
const float* layer_features(const PassContext& pass, int64_t layer);
// probs (H, L, L) f32 of the sequence in rows [begin, end) of the batch.
void attend_linear_probs(const PassContext& pass, int64_t layer, const LayerActivations& a,
                         int64_t begin, int64_t end, float* probs);

}  // namespace moltide
