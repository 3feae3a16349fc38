// The forward pass with 8-bit matrix products: inputs and weights of all projections are int8, the
// residual stream float32, everything else the activations' type. No backward.
#pragma once
#include "model/block.h"

namespace moltide {

// x += attention(norm(x)); x += mlp(norm(x)); norms stand where norms.h says. Adapters work in the
// activations' type, beside the 8-bit products; rows without an adapter have the same bits whether
// or not others have one.
void block_forward_int8(const PassContext& pass, int64_t layer, const Tensor& x,
                        const LayerActivations& a, const Workspace& ws, BlockPart part);

// codes = quantize(norm(x)), null: no norm.
void norm_quantize(const NormWeights* norm, const Tensor& x, const Int8Rows& codes);

// Masked-LM head: p.logits (T, V) f32 from p.y.
void lm_head_forward_int8(const PassContext& pass, const PassActivations& p);

}  // namespace moltide
