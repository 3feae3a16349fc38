// One transformer block, pre-norm, forward and backward.
#pragma once
#include <functional>

#include "model/linear.h"

namespace moltide {

// x_out = x_in + attention(norm(x_in)) + mlp(...). x_out may be x_in when nothing is kept for a
// backward (then a.x_mid is x_in too). With `inner_only` the last projection is left out: all a
// backward needs.
void block_forward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& x_out,
                   const LayerActivations& a, const Workspace& ws, bool inner_only = false);

// a.ctx = attention of a.q, a.k, a.v, of which q and k are rotated in place.
void attention_forward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                       bool coarse);

// Called before the backward of the MLP (2 layer + 1) and of attention (2 layer).
using HalfSink = std::function<void(int64_t)>;

// dx: gradient of the block's output in, of its input out. Weight gradients +=. With `stop` the
// gradient of the input is not wanted (nothing before this block is trained): dx is left undefined.
void block_backward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& dx,
                    const LayerActivations& a, const Workspace& ws, bool stop,
                    const HalfSink& before = {});

}  // namespace moltide
