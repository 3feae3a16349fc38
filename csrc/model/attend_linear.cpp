#include "model/attend_linear.h"

namespace moltide {

LinearAttentionParams linear_params(const PassContext& pass) {
  const EncoderConfig& c = pass.config;
  return {pass.batch.cu_seqlens.data(),    pass.batch.batch(), c.heads, c.head_dim, c.features,
          static_cast<float>(c.linear_eps)};
}

const float* layer_features(const PassContext& pass, int64_t layer) {
  const EncoderConfig& c = pass.config;
  return pass.features ? pass.features + layer * c.head_dim * c.features
                       : pass.weights.layers[layer].features->value;
}

void attend_linear_probs(const PassContext& pass, int64_t layer, const LayerActivations& a,
                         int64_t begin, int64_t end, float* probs) {
  const LinearAttentionParams p = linear_params(pass);
  linear_attention_probs(a.q.slice_rows(begin, end), a.k.slice_rows(begin, end),
                         layer_features(pass, layer), p.heads, p.head_dim, p.features, p.eps,
                         probs);
}

}  // namespace moltide
