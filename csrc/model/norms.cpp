#include "model/norms.h"

#include "layernorm/layernorm.h"
#include "residual/residual.h"

namespace moltide {
namespace {

const float* bias_of(const NormWeights& norm) {
  return norm.bias ? norm.bias->value : nullptr;
}

}  // namespace

BlockNorms block_norms(const EncoderConfig& c, EncoderWeights& weights, int64_t layer) {
  LayerWeights& l = weights.layers[layer];
  if (c.norm_place == NormPlace::pre)
    return {{&l.attn_norm, c.attn_residual_normed}, {&l.mlp_norm, false}};
  NormWeights* before = layer > 0 ? &weights.layers[layer - 1].mlp_norm : nullptr;
  return {{before, true}, {&l.attn_norm, true}};
}

NormWeights* closing_norm(const EncoderConfig& c, EncoderWeights& weights) {
  return c.norm_place == NormPlace::post ? &weights.layers.back().mlp_norm : nullptr;
}

void norm_forward(const NormWeights& norm, const Tensor& x, const Tensor& y, float* mean,
                  float* rstd) {
  layernorm_fwd(x, norm.weight->value, bias_of(norm), norm.eps, y, mean, rstd);
}

void norm_backward(const NormWeights& norm, const Tensor& dy, const Tensor& x, const float* mean,
                   const float* rstd, const Tensor& dx, bool accumulate) {
  layernorm_bwd(dy, x, norm.weight->value, mean, rstd, dx, accumulate, norm.weight->grad,
                norm.bias ? norm.bias->grad : nullptr);
}

bool trained(const NormWeights* norm) {
  return norm && norm->weight && norm->weight->grad;
}

Tensor open_half(const PassContext& pass, const HalfNorm& norm, const Tensor& x,
                 const Tensor& stream, const Tensor& to, float* mean, float* rstd) {
  if (!norm.joins || !stream) {
    norm_forward(*norm.weights, x, to, mean, rstd);
    return to;
  }
  if (norm.weights)
    norm_forward(*norm.weights, x, stream, mean, rstd);
  else if (stream.data != x.data)
    copy_cast(x, stream);
  if (pass.act == DType::f32) return stream;
  copy_cast(stream, to);
  return to;
}

Tensor open_half_again(const PassContext& pass, const HalfNorm& norm, const Tensor& x,
                       const Tensor& to) {
  if (norm.weights) {
    norm_forward(*norm.weights, x, to);
    return to;
  }
  if (pass.act == DType::f32) return x;
  copy_cast(x, to);
  return to;
}

}  // namespace moltide
