#include "model/attend.h"

#include <cmath>

#include "attention/attention.h"
#include "attention_pair_bias/attention_pair_bias.h"
#include "core/philox.h"
#include "model/attend_linear.h"
#include "model/norms.h"
#include "rope/rope.h"

namespace moltide {
namespace {

AttentionParams attention_params(const PassContext& pass, int64_t layer) {
  const EncoderConfig& c = pass.config;
  AttentionParams p{};
  p.cu_seqlens = pass.batch.cu_seqlens.data();
  p.batch = pass.batch.batch();
  p.heads = c.heads;
  p.head_dim = c.head_dim;
  p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)));
  p.dropout = pass.train ? static_cast<float>(c.attention_dropout) : 0.0f;
  p.seed = pass.seed;
  p.stream = pass.stream(layer, RandomSite::attention_dropout);
  return p;
}

PairBiasParams pair_params(const PassContext& pass, int64_t layer) {
  const AttentionParams p = attention_params(pass, layer);
  return {p.cu_seqlens, pass.batch.pair_starts.data(),
          p.batch,      p.heads,
          p.head_dim,   p.scale,
          p.dropout,    p.seed,
          p.stream};
}

void rotate(const PassContext& pass, const Tensor& x, bool inverse) {
  if (pass.config.position != Position::rotary) return;
  rope(x, pass.batch.position.data(), pass.config.heads, pass.config.head_dim, pass.rope_cos,
       pass.rope_sin, inverse);
}

// What the projections gave -> a.q and a.k.
void prepare(const PassContext& pass, int64_t layer, const LayerActivations& a) {
  if (pass.config.qk_norm) {
    const LayerWeights& w = pass.weights.layers[layer];
    norm_forward(w.q_norm, a.q_raw, a.q, a.mean_q, a.rstd_q);
    norm_forward(w.k_norm, a.k_raw, a.k, a.mean_k, a.rstd_k);
  }
  rotate(pass, a.q, false);
  rotate(pass, a.k, false);
}

// Gradients of a.q and a.k -> of what the projections gave, in place.
void prepare_backward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                      const Workspace& ws) {
  rotate(pass, ws.dq, true);
  rotate(pass, ws.dk, true);
  if (!pass.config.qk_norm) return;
  const LayerWeights& w = pass.weights.layers[layer];
  norm_backward(w.q_norm, ws.dq, a.q_raw, a.mean_q, a.rstd_q, ws.dq, false);
  norm_backward(w.k_norm, ws.dk, a.k_raw, a.mean_k, a.rstd_k, ws.dk, false);
}

}  // namespace

void attend_forward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                    bool coarse) {
  prepare(pass, layer, a);
  switch (pass.config.attention) {
    case AttentionKind::softmax: {
      AttentionParams params = attention_params(pass, layer);
      params.coarse = coarse;
      return attention_fwd(params, a.q, a.k, a.v, a.ctx, pass.train ? a.lse : nullptr);
    }
    case AttentionKind::softmax_pair_bias:
      return attention_pair_bias_fwd(pair_params(pass, layer), a.q, a.k, a.v, a.pairs.bias(layer),
                                     a.ctx, a.pairs.scores(layer), pass.train ? a.lse : nullptr);
    case AttentionKind::linear:
      return linear_attention_fwd(linear_params(pass), a.q, a.k, a.v, layer_features(pass, layer),
                                  a.ctx);
  }
}

void attend_backward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                     const Workspace& ws) {
  // Behind a QK-norm all layers share them.
  if (pass.config.qk_norm) prepare(pass, layer, a);
  switch (pass.config.attention) {
    case AttentionKind::softmax:
      attention_bwd(attention_params(pass, layer), ws.dctx, a.q, a.k, a.v, a.ctx, a.lse, ws.dq,
                    ws.dk, ws.dv, ws.attention);
      break;
    case AttentionKind::softmax_pair_bias:
      // Nobody reads the last layer's scores.
      attention_pair_bias_bwd(pair_params(pass, layer), ws.dctx, a.q, a.k, a.v,
                              a.pairs.scores(layer), a.lse, ws.dq, ws.dk, ws.dv, ws.dplanes,
                              !a.pairs.apart && layer + 1 < pass.config.layers);
      break;
    case AttentionKind::linear:
      linear_attention_bwd(linear_params(pass), ws.dctx, a.q, a.k, a.v, layer_features(pass, layer),
                           ws.dq, ws.dk, ws.dv);
      break;
  }
  prepare_backward(pass, layer, a, ws);
}

void attention_map(const PassContext& pass, int64_t layer, const LayerActivations& a, int64_t b,
                   float* out) {
  const EncoderConfig& c = pass.config;
  const int64_t begin = pass.batch.cu_seqlens[b], end = pass.batch.cu_seqlens[b + 1];
  switch (c.attention) {
    case AttentionKind::softmax:
      return attention_probs(a.q.slice_rows(begin, end), a.k.slice_rows(begin, end), c.heads,
                             c.head_dim, attention_params(pass, layer).scale, out);
    case AttentionKind::softmax_pair_bias:
      return attention_pair_bias_probs(a.pairs.scores(layer) + c.heads * pass.batch.pair_starts[b],
                                       c.heads, end - begin, out);
    case AttentionKind::linear:
      return attend_linear_probs(pass, layer, a, begin, end, out);
  }
}

}  // namespace moltide
