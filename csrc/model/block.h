// One transformer block, forward and backward: attention, then the MLP (norms.h: where norms
// stand).
#pragma once
#include <functional>

#include "model/linear.h"

namespace moltide {

enum class BlockPart : uint8_t {
  whole,
  inner,     // all but the last projection: what a backward needs
  after_qkv  // a.q, a.k and a.v are there
};

// x_mid = x_in + attention(norm(x_in)), x_out = x_mid + mlp(norm(x_mid)); with post-norm these are
// the sums before a norm (norms.h). x_out may be x_in when nothing is kept for a backward (then
// a.x_mid is x_in too).
void block_forward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& x_out,
                   const LayerActivations& a, const Workspace& ws,
                   BlockPart part = BlockPart::whole);

// Called before the backward of the MLP (2 layer + 1) and of attention (2 layer).
using HalfSink = std::function<void(int64_t)>;

// dx: gradient of the block's output in, of its input out. Weight gradients +=. With `stop` the
// gradient of the input is not wanted (nothing before this block is trained): dx is left undefined.
void block_backward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& dx,
                    const LayerActivations& a, const Workspace& ws, bool stop,
                    const HalfSink& before = {});

}  // namespace moltide
