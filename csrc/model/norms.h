// Which norm opens each half of a block, and where the half's branch joins the residual stream.
//
//   pre-norm    x' = x + branch(norm(x))
//   post-norm   x' = norm(x + branch(x)); as the engine sees it, from between the halves, the same
//               with another residual: s' = h + branch(h), h = norm(s), where s is the sum before
//               the norm, and the norm that of the half before
//
// So both keep the same two sums a block, and compute their norms again in the backward.
#pragma once
#include "model/linear.h"

namespace moltide {

struct HalfNorm {
  NormWeights* weights = nullptr;  // null: no norm, h = x
  bool joins = false;              // the branch is added to h, not to x
};

struct BlockNorms {
  HalfNorm attention, mlp;
};

BlockNorms block_norms(const EncoderConfig& config, EncoderWeights& weights, int64_t layer);
// The norm behind the last block's sum that belongs to the blocks: null but for post-norm.
NormWeights* closing_norm(const EncoderConfig& config, EncoderWeights& weights);

void norm_forward(const NormWeights& norm, const Tensor& x, const Tensor& y, float* mean = nullptr,
                  float* rstd = nullptr);
void norm_backward(const NormWeights& norm, const Tensor& dy, const Tensor& x, const float* mean,
                   const float* rstd, const Tensor& dx, bool accumulate);
bool trained(const NormWeights* norm);

// Forward: h, which the half's projections read, from its input x, in the compute type: in `to`, or
// in `stream` itself. Where the branch joins h, `stream` (T, C) f32 receives it, unless empty.
Tensor open_half(const PassContext& pass, const HalfNorm& norm, const Tensor& x,
                 const Tensor& stream, const Tensor& to, float* mean, float* rstd);
// The same h again for the backward, to the same bits: in `to`, or x itself.
Tensor open_half_again(const PassContext& pass, const HalfNorm& norm, const Tensor& x,
                       const Tensor& to);

}  // namespace moltide
