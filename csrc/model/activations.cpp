#include "model/activations.h"

#include <algorithm>

#include "attention/attention.h"
#include "model/pair_bias.h"
#include "model/pair_stream.h"

namespace moltide {
namespace {

int64_t up_width(const EncoderConfig& c) {
  return c.ffn_width * (c.activation == Activation::swiglu ? 2 : 1);
}

void plan_statistics(const EncoderConfig& c, const PassShape& s, LayerActivations& a, Cursor& at) {
  for (float** row : {&a.mean1, &a.rstd1, &a.mean2, &a.rstd2}) *row = at.floats(s.tokens);
  if (c.qk_norm)
    for (float** row : {&a.mean_q, &a.rstd_q, &a.mean_k, &a.rstd_k}) *row = at.floats(s.tokens);
  if (s.lora_rank > 0)
    for (Tensor& lora : a.lora) lora = at.tensor(s.tokens, s.lora_rank, s.act);
}

void plan_attention(const EncoderConfig& c, const PassShape& s, LayerActivations& a, Cursor& at) {
  const int64_t t = s.tokens, inner = c.heads * c.head_dim;
  plan_statistics(c, s, a, at);
  a.q_raw = at.tensor(t, inner, s.act);
  a.k_raw = at.tensor(t, inner, s.act);
  if (!c.qk_norm) {
    a.q = a.q_raw;
    a.k = a.k_raw;
  }
  a.v = at.tensor(t, inner, s.act);
  a.ctx = at.tensor(t, inner, s.act);
  if (c.attention == AttentionKind::softmax) a.lse = at.floats(c.heads * t);
  if (c.attention == AttentionKind::softmax_pair_bias) a.lse = at.floats(2 * c.heads * t);
}

void plan_mlp(const EncoderConfig& c, const PassShape& s, LayerActivations& a, Cursor& at) {
  a.u = at.tensor(s.tokens, up_width(c), s.act);
  a.u_again = s.recompute == Recompute::mlp;
}

// The normalised inputs and attention's output follow each other; so do q, k, v and the MLP's.
LayerActivations plan_passing_layer(const EncoderConfig& c, const PassShape& s, const Tensor& x,
                                    Cursor& at) {
  const int64_t t = s.tokens, inner = c.heads * c.head_dim, up = up_width(c);
  LayerActivations a;
  plan_statistics(c, s, a, at);
  a.x_mid = x;
  void* passing = at.bytes(t * std::max(c.width, inner) * dtype_bytes(s.act));
  a.h1 = a.h2 = make_tensor(passing, t, c.width, s.act);
  a.ctx = make_tensor(passing, t, inner, s.act);
  if (s.int8) {
    a.h8 = at.int8_rows(t, c.width);
    a.ctx8 = at.int8_rows(t, inner);
  }
  const int64_t mark = at.mark();
  a.q = a.q_raw = at.tensor(t, inner, s.act);
  a.k = a.k_raw = at.tensor(t, inner, s.act);
  a.v = at.tensor(t, inner, s.act);
  if (!s.keep_attention) at.release(mark);
  if (s.int8) a.g8 = at.int8_rows(t, c.ffn_width);
  // 8-bit products read and write codes; adapters and other activations than GELU need the values.
  if (!s.int8 || s.lora_rank > 0 || c.activation != Activation::gelu) {
    a.g = at.tensor(t, c.ffn_width, s.act);
    a.u = up != c.ffn_width ? at.tensor(t, up, s.act) : a.g;
  }
  at.release(mark);
  return a;
}

Workspace plan_workspace(const EncoderConfig& c, const PassShape& s, Cursor& at) {
  const int64_t t = s.tokens;
  const int64_t widest = std::max({c.width, c.ffn_width, c.heads * c.head_dim});
  Workspace w;
  if ((s.train && c.hidden_dropout > 0) || c.residual_scale != 1.0)
    w.branch = at.tensor(t, c.width, DType::f32);
  if (s.lora_rank > 0 && s.lora_dropout) w.lora_in = at.tensor(t, widest, s.act);
  if (!s.backward) return w;
  // A branch's gradient is read for the last time before that of its input is written.
  w.dh = at.tensor(t, c.width, DType::f32);
  w.dbranch = make_tensor(w.dh.data, t, c.width, s.act);
  if (s.lora_rank > 0) {
    w.dlora = at.tensor(t, s.lora_rank, s.act);
    if (s.lora_dropout) w.dlora_in = at.tensor(t, widest, DType::f32);
  }
  return w;
}

// What the backward computes again from what layers keep, and the gradients within a block: one
// copy serves all layers. The MLP is done before attention begins.
LayerActivations plan_shared(const EncoderConfig& c, const PassShape& s, Cursor& at, Workspace& w) {
  const int64_t t = s.tokens, inner = c.heads * c.head_dim;
  LayerActivations a;
  a.h1 = a.h2 = at.tensor(t, c.width, s.act);
  const int64_t mark = at.mark();
  a.g = w.dg = at.tensor(t, c.ffn_width, s.act);
  w.du = c.activation == Activation::swiglu ? at.tensor(t, up_width(c), s.act) : w.dg;
  if (c.swiglu_beta) w.beta = at.floats(t);
  const int64_t mlp = at.mark();
  at.release(mark);
  w.dctx = at.tensor(t, inner, s.act);
  w.dq = at.tensor(t, inner, s.act);
  w.dk = at.tensor(t, inner, s.act);
  w.dv = at.tensor(t, inner, s.act);
  if (c.attention == AttentionKind::softmax)
    w.attention = at.bytes(attention_bwd_workspace(t, c.heads));
  if (c.qk_norm) {
    a.q = at.tensor(t, inner, s.act);
    a.k = at.tensor(t, inner, s.act);
  }
  at.release(std::max(mlp, at.mark()));
  return a;
}

// What comes after the blocks: the encoder's output and the masked-LM head.
void plan_outputs(const EncoderConfig& c, const PassShape& s, Cursor& at, PassActivations& p) {
  const int64_t t = s.tokens;
  p.mean_final = at.floats(t);
  p.rstd_final = at.floats(t);
  p.y = at.tensor(t, c.width, DType::f32);
  if (c.norm_place == NormPlace::post) {
    p.mean_closing = at.floats(t);
    p.rstd_closing = at.floats(t);
    p.x_end = c.final_norm ? at.tensor(t, c.width, DType::f32) : p.y;
  }
  if (!s.lm_head) return;
  p.lm_g = at.tensor(t, c.width, DType::f32);
  if (s.int8) {
    p.y8 = at.int8_rows(t, c.width);
  } else {
    p.y_act = s.act == DType::f32 ? p.y : at.tensor(t, c.width, s.act);
    if (s.train) p.lm_u = at.tensor(t, c.width, DType::f32);
    p.lm_h = at.tensor(t, c.width, s.act);
  }
  p.mean_lm = at.floats(t);
  p.rstd_lm = at.floats(t);
  p.logits = at.tensor(t, c.vocab, DType::f32);
  if (s.train) p.dlogits = s.act == DType::f32 ? p.logits : at.tensor(t, c.vocab, s.act);
}

}  // namespace

void plan_pass(const EncoderConfig& c, const PassShape& s, Cursor& at, PassActivations& p) {
  const int64_t t = s.tokens;
  auto x = std::move(p.x);
  auto layers = std::move(p.layers);
  auto ends = std::move(p.half_ends);
  x.clear();
  layers.clear();
  ends.clear();
  p = {};
  p.shape = s;
  p.pairs = plan_pairs(c, s, at);
  p.stream = plan_pair_stream(c, s, at);
  p.token_scale = c.token_dropout ? at.floats(t) : nullptr;
  auto stream = [&] { return at.tensor(t, c.width, DType::f32); };
  auto plan_embedding = [&] {
    if (!c.embed_norm) return;
    p.x_embed = stream();
    p.mean_embed = at.floats(t);
    p.rstd_embed = at.floats(t);
  };
  if (s.train && s.backward) {
    plan_embedding();
    p.dx = p.dy = stream();
    // No block computes while the heads do: they use the blocks' scratch.
    const int64_t mark = at.mark();
    plan_outputs(c, s, at, p);
    const int64_t outputs = at.mark();
    at.release(mark);
    p.ws = plan_workspace(c, s, at);
    LayerActivations layer = plan_shared(c, s, at, p.ws);
    layer.pairs = p.pairs.planes;
    p.ws.dplanes = p.pairs.dplanes;
    at.release(std::max(outputs, at.mark()));
    const bool shared = s.recompute == Recompute::blocks;
    if (shared) {
      plan_attention(c, s, layer, at);
      layer.x_mid = stream();
      plan_mlp(c, s, layer, at);
      layers.push_back(layer);
    }
    // The MLP's branch joins what it reads: that lies in the next block's input while u is written.
    const bool next_first = c.norm_place == NormPlace::post && s.recompute == Recompute::mlp;
    x.push_back(stream());
    for (int64_t i = 0; i < c.layers; ++i) {
      if (shared) {
        ends.insert(ends.end(), 2, at.mark());
        x.push_back(stream());
        continue;
      }
      plan_attention(c, s, layer, at);
      ends.push_back(at.mark());
      layer.x_mid = stream();
      if (next_first) x.push_back(stream());
      const int64_t before_u = at.mark();
      plan_mlp(c, s, layer, at);
      ends.push_back(at.mark());
      layers.push_back(layer);
      // Then u lies where the next block does, not yet computed or no longer needed.
      if (layer.u_again) at.release(before_u);
      if (!next_first) x.push_back(stream());
    }
  } else {
    if (!s.train && c.position != Position::learned && c.pair_width == 0)
      p.kinds = {at.ints(t), at.ints(c.vocab), at.ints(c.vocab)};
    x.assign(static_cast<size_t>(c.layers) + 1, stream());
    p.ws = plan_workspace(c, s, at);
    layers.push_back(plan_passing_layer(c, s, x[0], at));
    layers[0].pairs = p.pairs.planes;
    // Before the first block, as everything below after the last: in the memory of the blocks.
    const int64_t mark = at.mark();
    plan_embedding();
    at.release(mark);
    plan_outputs(c, s, at, p);
  }
  if (c.norm_place == NormPlace::pre) p.x_end = x.back();
  p.x = std::move(x);
  p.layers = std::move(layers);
  p.half_ends = std::move(ends);
}

}  // namespace moltide
