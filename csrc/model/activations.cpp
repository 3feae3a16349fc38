#include "model/activations.h"

#include <algorithm>

#include "attention/attention.h"

namespace moltide {
namespace {

LayerActivations plan_layer(const EncoderConfig& c, const PassShape& s, Cursor& at) {
  const int64_t t = s.tokens, inner = c.heads * c.head_dim;
  const int64_t up = c.ffn_width * (c.activation == Activation::swiglu ? 2 : 1);
  LayerActivations a;
  // 8-bit projections read codes; adapters and other activations than GELU need the values too.
  const bool values = !s.int8 || s.lora_rank > 0;
  if (s.int8) {
    a.h8 = at.int8_rows(t, c.width);
    a.ctx8 = at.int8_rows(t, inner);
    a.g8 = at.int8_rows(t, c.ffn_width);
  }
  if (values) a.h1 = at.tensor(t, c.width, s.act);
  a.q = at.tensor(t, inner, s.act);
  a.k = at.tensor(t, inner, s.act);
  a.v = at.tensor(t, inner, s.act);
  a.ctx = at.tensor(t, inner, s.act);
  a.lse = at.floats(c.heads * t);
  a.mean1 = at.floats(t);
  a.rstd1 = at.floats(t);
  a.mean2 = at.floats(t);
  a.rstd2 = at.floats(t);
  if (s.train) {
    a.x_mid = at.tensor(t, c.width, DType::f32);
    a.h2 = at.tensor(t, c.width, s.act);
  } else {
    a.h2 = a.h1;
  }
  if (values || c.activation != Activation::gelu) {
    a.g = at.tensor(t, c.ffn_width, s.act);
    a.u = s.train || up != c.ffn_width ? at.tensor(t, up, s.act) : a.g;
  }
  if (s.lora_rank > 0)
    for (Tensor& lora : a.lora) lora = at.tensor(t, s.lora_rank, s.act);
  return a;
}

Workspace plan_workspace(const EncoderConfig& c, const PassShape& s, Cursor& at) {
  const int64_t t = s.tokens, inner = c.heads * c.head_dim;
  const int64_t up = c.ffn_width * (c.activation == Activation::swiglu ? 2 : 1);
  const int64_t widest = std::max({c.width, c.ffn_width, inner});
  Workspace w;
  if ((s.train && c.hidden_dropout > 0) || c.residual_scale != 1.0)
    w.branch = at.tensor(t, c.width, DType::f32);
  if (s.lora_rank > 0 && s.lora_dropout) w.lora_in = at.tensor(t, widest, s.act);
  if (!s.backward) return w;
  if (s.act != DType::f32 || c.hidden_dropout > 0 || c.residual_scale != 1.0)
    w.dbranch = at.tensor(t, c.width, s.act);
  w.dg = at.tensor(t, c.ffn_width, s.act);
  w.du = c.activation == Activation::swiglu ? at.tensor(t, up, s.act) : w.dg;
  w.dh = at.tensor(t, c.width, DType::f32);
  w.dctx = at.tensor(t, inner, s.act);
  w.dq = at.tensor(t, inner, s.act);
  w.dk = at.tensor(t, inner, s.act);
  w.dv = at.tensor(t, inner, s.act);
  if (s.lora_rank > 0) {
    w.dlora = at.tensor(t, s.lora_rank, s.act);
    if (s.lora_dropout) w.dlora_in = at.tensor(t, widest, DType::f32);
  }
  w.attention = at.bytes(attention_bwd_workspace(t, c.heads));
  return w;
}

}  // namespace

PassActivations plan_pass(const EncoderConfig& c, const PassShape& s, Cursor& at) {
  const int64_t t = s.tokens;
  PassActivations p;
  p.shape = s;
  p.token_scale = c.token_dropout ? at.floats(t) : nullptr;
  if (c.embed_norm) {
    p.x_embed = at.tensor(t, c.width, DType::f32);
    p.mean_embed = at.floats(t);
    p.rstd_embed = at.floats(t);
  }
  p.mean_final = at.floats(t);
  p.rstd_final = at.floats(t);
  const bool keep = s.train && s.backward;
  Tensor x = at.tensor(t, c.width, DType::f32);
  p.x.push_back(x);
  for (int64_t i = 0; i < c.layers; ++i)
    p.x.push_back(keep ? at.tensor(t, c.width, DType::f32) : x);
  PassShape layer_shape = s;
  layer_shape.train = keep;
  const int64_t kept = keep && !s.recompute ? c.layers : 1;
  for (int64_t i = 0; i < kept; ++i) p.layers.push_back(plan_layer(c, layer_shape, at));
  if (!keep) p.layers[0].x_mid = x;
  p.ws = plan_workspace(c, s, at);
  p.y = at.tensor(t, c.width, DType::f32);
  if (s.backward) p.dx = at.tensor(t, c.width, DType::f32);
  if (s.train) p.dy = at.tensor(t, c.width, DType::f32);
  if (s.lm_head) {
    p.lm_g = at.tensor(t, c.width, DType::f32);
    if (s.int8) {
      p.y8 = at.int8_rows(t, c.width);
    } else {
      p.y_act = s.act == DType::f32 ? p.y : at.tensor(t, c.width, s.act);
      p.lm_u = at.tensor(t, c.width, DType::f32);
      p.lm_h = at.tensor(t, c.width, s.act);
    }
    p.mean_lm = at.floats(t);
    p.rstd_lm = at.floats(t);
    p.logits = at.tensor(t, c.vocab, DType::f32);
    if (s.train) p.dlogits = s.act == DType::f32 ? p.logits : at.tensor(t, c.vocab, s.act);
  }
  return p;
}

}  // namespace moltide
