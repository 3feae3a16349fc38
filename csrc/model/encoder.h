// The encoder: embedding, blocks, final norm; forward and backward over one packed batch.
#pragma once
#include <functional>

#include "model/block.h"

namespace moltide {

// Called with the input of each block (0 .. layers - 1), as published models list hidden states.
using StreamSink = std::function<void(int64_t, const Tensor&)>;
// Called after each block's forward with what it computed.
using LayerSink = std::function<void(int64_t, const LayerActivations&)>;

struct EncoderSinks {
  StreamSink stream;
  LayerSink layer;
};

// Writes p.y (T, C) f32, the encoder's output, and whatever p.shape says a backward needs.
void encoder_forward(const PassContext& pass, const PassActivations& p,
                     const EncoderSinks& sinks = {});

// p.dy is the gradient of p.y; parameter gradients +=. `before` hears of each half of a block.
void encoder_backward(const PassContext& pass, const PassActivations& p,
                      const HalfSink& before = {});

// Masked-LM head: p.logits (T, V) f32 from p.y; backward: p.dlogits -> p.dy =.
void lm_head_forward(const PassContext& pass, const PassActivations& p);
void lm_head_backward(const PassContext& pass, const PassActivations& p);

}  // namespace moltide
