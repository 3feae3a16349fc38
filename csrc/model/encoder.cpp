#include "model/encoder.h"

#include <cstring>

#include "core/philox.h"
#include "dropout/dropout.h"
#include "embedding/embedding.h"
#include "model/first_block.h"
#include "model/int8.h"
#include "model/norms.h"
#include "model/pair_bias.h"
#include "model/pair_stream.h"
#include "residual/residual.h"

namespace moltide {
namespace {

Tensor table_of(const Param* p, const float* values) {
  return p && values ? f32_tensor(values, p->shape[0], p->shape[1]) : Tensor{};
}

// Of what the first block gets, or of its gradient.
void embed_dropout(const PassContext& pass, const Tensor& x) {
  if (!pass.train || pass.config.embed_dropout == 0) return;
  dropout(x, x, static_cast<float>(pass.config.embed_dropout), pass.seed,
          pass.stream(0, RandomSite::embedding_dropout));
}

void embed(const PassContext& pass, const PassActivations& p) {
  const EncoderConfig& c = pass.config;
  EncoderWeights& w = pass.weights;
  const PackedBatch& batch = pass.batch;
  if (p.token_scale)
    token_dropout_scale(batch.tokens.data(), batch.cu_seqlens.data(), batch.batch(), c.mask_token,
                        static_cast<float>(c.mask_ratio_train), p.token_scale);
  const Tensor& x = c.embed_norm ? p.x_embed : p.x[0];
  embedding_fwd(batch.tokens.data(), p.token_scale, batch.position.data(), c.position_offset,
                table_of(w.tokens, w.tokens->value),
                w.positions ? table_of(w.positions, w.positions->value) : Tensor{}, x);
  if (c.pair_width > 0) describe_tokens(pass, x);
  if (c.embed_norm) norm_forward(w.embed_norm, x, p.x[0], p.mean_embed, p.rstd_embed);
  embed_dropout(pass, p.x[0]);
}

bool embedding_trained(const EncoderWeights& w) {
  return w.tokens->grad || (w.positions && w.positions->grad) || trained(&w.embed_norm);
}

void embed_backward(const PassContext& pass, const PassActivations& p) {
  const EncoderConfig& c = pass.config;
  EncoderWeights& w = pass.weights;
  embed_dropout(pass, p.dx);
  if (c.embed_norm)
    norm_backward(w.embed_norm, p.dx, p.x_embed, p.mean_embed, p.rstd_embed, p.dx, false);
  embedding_bwd(pass.batch.tokens.data(), p.token_scale, pass.batch.position.data(),
                c.position_offset, p.dx, table_of(w.tokens, w.tokens->grad),
                w.positions ? table_of(w.positions, w.positions->grad) : Tensor{});
  if (c.pair_width > 0) describe_tokens_backward(pass, p.dx);
}

const LayerActivations& layer_of(const PassActivations& p, int64_t layer) {
  return p.layers.size() == 1 ? p.layers[0] : p.layers[static_cast<size_t>(layer)];
}

// Shows the input of block i as published models list it: after the norm with post-norm.
void show_stream(const PassContext& pass, const PassActivations& p, int64_t i,
                 const EncoderSinks& sinks) {
  if (!sinks.stream) return;
  const HalfNorm norm = block_norms(pass.config, pass.weights, i).attention;
  if (pass.config.norm_place == NormPlace::pre || !norm.weights) return sinks.stream(i, p.x[i]);
  // Nobody else writes the encoder's output yet.
  norm_forward(*norm.weights, p.x[i], p.y);
  sinks.stream(i, p.y);
}

}  // namespace

void encoder_forward(const PassContext& pass, const PassActivations& p, const EncoderSinks& sinks) {
  const EncoderConfig& c = pass.config;
  const bool stream = c.pair_width > 0;
  if (stream)
    pair_stream_embed(pass, p.stream);
  else if (c.attention == AttentionKind::softmax_pair_bias)
    pair_bias_forward(pass, p.pairs);
  embed(pass, p);
  show_stream(pass, p, 0, sinks);
  BlockPart part = project_by_token(pass, p) ? BlockPart::after_qkv : BlockPart::whole;
  for (int64_t i = 0; i < c.layers; ++i, part = BlockPart::whole) {
    if (i > 0) show_stream(pass, p, i, sinks);
    if (stream) pair_stream_bias(pass, i, p.stream, p.pairs.planes);
    if (pass.int8)
      block_forward_int8(pass, i, p.x[i], layer_of(p, i), p.ws, part);
    else
      block_forward(pass, i, p.x[i], p.x[i + 1], layer_of(p, i), p.ws, part);
    if (sinks.layer) sinks.layer(i, layer_of(p, i));
    // Nobody reads the pairs behind the last layer.
    if (stream && i + 1 < c.layers) pair_stream_update(pass, i, p.stream, p.x[i + 1]);
  }
  if (const NormWeights* closing = closing_norm(c, pass.weights))
    norm_forward(*closing, p.x[c.layers], p.x_end, p.mean_closing, p.rstd_closing);
  if (c.final_norm)
    norm_forward(pass.weights.final_norm, p.x_end, p.y, p.mean_final, p.rstd_final);
  else if (p.x_end.data != p.y.data)
    copy_cast(p.x_end, p.y);
}

void encoder_backward(const PassContext& pass, const PassActivations& p, const HalfSink& before) {
  const EncoderConfig& c = pass.config;
  // dx lies where dy does: without any norm it is that.
  if (c.final_norm)
    norm_backward(pass.weights.final_norm, p.dy, p.x_end, p.mean_final, p.rstd_final, p.dx, false);
  if (const NormWeights* closing = closing_norm(c, pass.weights))
    norm_backward(*closing, p.dx, p.x[c.layers], p.mean_closing, p.rstd_closing, p.dx, false);
  const bool embedding = embedding_trained(pass.weights), stream = c.pair_width > 0;
  if (stream) std::memset(p.stream.dz, 0, static_cast<size_t>(p.shape.pairs * p.stream.width) * 4);
  for (int64_t i = c.layers - 1; i >= 0; --i) {
    const LayerActivations& a = layer_of(p, i);
    if (stream && i + 1 < c.layers)
      pair_stream_update_backward(pass, i, p.stream, p.x[i + 1], p.dx);
    // What the last block of the forward pass left is still there.
    if (p.shape.recompute == Recompute::blocks && i + 1 < c.layers) {
      if (stream) pair_stream_bias(pass, i, p.stream, p.pairs.planes);
      block_forward(pass, i, p.x[i], Tensor{}, a, p.ws, BlockPart::inner);
    }
    block_backward(pass, i, p.x[i], p.dx, a, p.ws, i == 0 && !embedding, before);
    if (stream) pair_stream_bias_backward(pass, i, p.stream, p.pairs.dplanes);
  }
  if (embedding) embed_backward(pass, p);
  if (pair_bias_trained(pass.weights)) pair_bias_backward(pass, p.pairs);
  if (stream) pair_stream_embed_backward(pass, p.stream);
}

void lm_head_forward(const PassContext& pass, const PassActivations& p) {
  if (pass.int8) return lm_head_forward_int8(pass, p);
  EncoderWeights& w = pass.weights;
  if (p.y_act.data != p.y.data) copy_cast(p.y, p.y_act);
  matmul(p.y_act, w.lm_dense.forward.get(*w.lm_dense.weight, false, 1.0f, pass.act),
         w.lm_dense.bias_value(), p.lm_g, Epilogue::gelu, p.lm_u ? &p.lm_u : nullptr);
  norm_forward(w.lm_norm, p.lm_g, p.lm_h, p.mean_lm, p.rstd_lm);
  matmul(p.lm_h, w.lm_decoder.forward.get(*w.lm_decoder.weight, false, 1.0f, pass.act),
         w.lm_decoder.bias_value(), p.logits);
}

void lm_head_backward(const PassContext& pass, const PassActivations& p) {
  EncoderWeights& w = pass.weights;
  auto gradients = [](const Linear& l, const Tensor& dy, const Tensor& x) {
    if (l.weight->grad)
      matmul_dw(dy, x, f32_tensor(l.weight->grad, l.out(), l.in()),
                l.bias ? l.bias->grad : nullptr);
  };
  gradients(w.lm_decoder, p.dlogits, p.lm_h);
  // dy serves as scratch until it receives its value at the end.
  matmul(p.dlogits, w.lm_decoder.backward.get(*w.lm_decoder.weight, true, 1.0f, pass.act), nullptr,
         p.dy);
  norm_backward(w.lm_norm, p.dy, p.lm_g, p.mean_lm, p.rstd_lm, p.dy, false);
  activation_bwd(Activation::gelu, p.dy, p.lm_u, p.dy);
  copy_cast(p.dy, p.lm_h);
  gradients(w.lm_dense, p.lm_h, p.y_act);
  matmul(p.lm_h, w.lm_dense.backward.get(*w.lm_dense.weight, true, 1.0f, pass.act), nullptr, p.dy);
}

}  // namespace moltide
