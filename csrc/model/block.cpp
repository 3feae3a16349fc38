#include "model/block.h"

#include <cmath>
#include <cstring>

#include "attention/attention.h"
#include "core/philox.h"
#include "dropout/dropout.h"
#include "layernorm/layernorm.h"
#include "residual/residual.h"
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

void rotate(const PassContext& pass, const Tensor& x, bool inverse) {
  if (pass.config.position != Position::rotary) return;
  rope(x, pass.batch.position.data(), pass.config.heads, pass.config.head_dim, pass.rope_cos,
       pass.rope_sin, inverse);
}

// x += scale * dropout(projection of input), in place on the residual stream.
void add_branch(const PassContext& pass, Linear& linear, Site site, RandomSite drop,
                const Tensor& input, const Tensor& x, const LayerActivations& a,
                const Workspace& ws) {
  const float p = pass.train ? static_cast<float>(pass.config.hidden_dropout) : 0.0f;
  const Tensor& lora = a.lora[static_cast<int>(site.projection)];
  if (p == 0 && pass.config.residual_scale == 1.0) {
    linear_forward(pass, linear, site, input, x, Epilogue::accumulate, nullptr, lora, ws);
    return;
  }
  linear_forward(pass, linear, site, input, ws.branch, Epilogue::store, nullptr, lora, ws);
  if (p > 0) dropout(ws.branch, ws.branch, p, pass.seed, pass.stream(site.layer, drop));
  residual_add(x, ws.branch, static_cast<float>(pass.config.residual_scale));
}

// The gradient that add_branch hands to its projection, in the compute type.
Tensor branch_gradient(const PassContext& pass, Site site, RandomSite drop, const Tensor& dx,
                       const Workspace& ws) {
  const float p = pass.train ? static_cast<float>(pass.config.hidden_dropout) : 0.0f;
  const bool scaled = pass.config.residual_scale != 1.0;
  if (p == 0 && !scaled && pass.act == DType::f32) return dx;
  if (p == 0 && !scaled) {
    copy_cast(dx, ws.dbranch);
    return ws.dbranch;
  }
  const Tensor& full = ws.branch;
  if (scaled) {
    std::memset(full.data, 0, static_cast<size_t>(full.rows * full.cols) * sizeof(float));
    residual_add(full, dx, static_cast<float>(pass.config.residual_scale));
  } else {
    copy_cast(dx, full);
  }
  if (p > 0) dropout(full, full, p, pass.seed, pass.stream(site.layer, drop));
  copy_cast(full, ws.dbranch);
  return ws.dbranch;
}

// y = norm(x) with the bits of the forward pass.
void normalise(const PassContext& pass, const NormWeights& norm, const Tensor& x, const Tensor& y) {
  layernorm_fwd(x, norm.weight->value, norm.bias->value, static_cast<float>(pass.config.norm_eps),
                y, nullptr, nullptr);
}

// a.h2 -> a.u and a.g, as far as they are wanted; the other may be written too.
void mlp_forward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                 const Workspace& ws, bool wants_u, bool wants_g) {
  LayerWeights& w = pass.weights.layers[layer];
  const Site up{layer, Projection::up}, gate{layer, Projection::gate};
  const Tensor& lora_up = a.lora[static_cast<int>(Projection::up)];
  const Activation activation = pass.config.activation;
  if (activation == Activation::swiglu) {
    const int64_t f = pass.config.ffn_width;
    linear_forward(pass, w.gate, gate, a.h2, a.u.slice_cols(0, f), Epilogue::store, nullptr,
                   a.lora[static_cast<int>(Projection::gate)], ws);
    linear_forward(pass, w.up, up, a.h2, a.u.slice_cols(f, f), Epilogue::store, nullptr, lora_up,
                   ws);
    if (wants_g) activation_fwd(activation, a.u, a.g);
  } else if (wants_g && activation == Activation::gelu && !has_adapter(pass, up)) {
    const Tensor* pre = wants_u ? &a.u : nullptr;
    linear_forward(pass, w.up, up, a.h2, a.g, Epilogue::gelu, pre, lora_up, ws);
  } else {
    linear_forward(pass, w.up, up, a.h2, a.u, Epilogue::store, nullptr, lora_up, ws);
    if (wants_g) activation_fwd(activation, a.u, a.g);
  }
}

// dg in ws.dg -> gradient of the MLP's normalised input in ws.dh.
void mlp_backward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                  const Workspace& ws) {
  LayerWeights& w = pass.weights.layers[layer];
  const Site up{layer, Projection::up}, gate{layer, Projection::gate};
  activation_bwd(pass.config.activation, ws.dg, a.u, ws.du);
  if (!a.u_again && (reads_input(pass, w.up, up) || reads_input(pass, w.gate, gate)))
    normalise(pass, w.mlp_norm, a.x_mid, a.h2);
  Tensor du = ws.du;
  if (pass.config.activation == Activation::swiglu) {
    const int64_t f = pass.config.ffn_width;
    linear_backward(pass, w.gate, gate, a.h2, ws.du.slice_cols(0, f), ws.dh, false,
                    a.lora[static_cast<int>(Projection::gate)], ws);
    du = ws.du.slice_cols(f, f);
  }
  linear_backward(pass, w.up, up, a.h2, du, ws.dh, w.gate.weight != nullptr,
                  a.lora[static_cast<int>(Projection::up)], ws);
}

}  // namespace

void attention_forward(const PassContext& pass, int64_t layer, const LayerActivations& a,
                       bool coarse) {
  rotate(pass, a.q, false);
  rotate(pass, a.k, false);
  AttentionParams params = attention_params(pass, layer);
  params.coarse = coarse;
  attention_fwd(params, a.q, a.k, a.v, a.ctx, pass.train ? a.lse : nullptr);
}

void block_forward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& x_out,
                   const LayerActivations& a, const Workspace& ws, BlockPart part) {
  LayerWeights& w = pass.weights.layers[layer];
  const float eps = static_cast<float>(pass.config.norm_eps);
  auto lora = [&](Projection p) { return a.lora[static_cast<int>(p)]; };

  const auto project = [&](Linear& linear, Projection p, const Tensor& y) {
    linear_forward(pass, linear, {layer, p}, a.h1, y, Epilogue::store, nullptr, lora(p), ws);
  };
  if (part != BlockPart::after_qkv) {
    layernorm_fwd(x_in, w.attn_norm.weight->value, w.attn_norm.bias->value, eps, a.h1, a.mean1,
                  a.rstd1);
    project(w.q, Projection::q, a.q);
    project(w.k, Projection::k, a.k);
    project(w.v, Projection::v, a.v);
  }
  attention_forward(pass, layer, a, false);
  if (a.x_mid.data != x_in.data) copy_cast(x_in, a.x_mid);
  add_branch(pass, w.out, {layer, Projection::out}, RandomSite::attention_branch_dropout, a.ctx,
             a.x_mid, a, ws);

  layernorm_fwd(a.x_mid, w.mlp_norm.weight->value, w.mlp_norm.bias->value, eps, a.h2, a.mean2,
                a.rstd2);
  const Site down{layer, Projection::down};
  mlp_forward(pass, layer, a, ws, !a.u_again && a.u.data != a.g.data,
              part != BlockPart::inner || has_adapter(pass, down));
  if (part == BlockPart::inner) {
    adapters_forward(pass, down, a.g, Tensor{}, lora(Projection::down), ws);
    return;
  }
  if (x_out.data != a.x_mid.data) copy_cast(a.x_mid, x_out);
  add_branch(pass, w.down, down, RandomSite::mlp_branch_dropout, a.g, x_out, a, ws);
}

void block_backward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& dx,
                    const LayerActivations& a, const Workspace& ws, bool stop,
                    const HalfSink& before) {
  LayerWeights& w = pass.weights.layers[layer];
  auto lora = [&](Projection p) { return a.lora[static_cast<int>(p)]; };

  const Site down{layer, Projection::down}, out{layer, Projection::out};
  if (before) before(2 * layer + 1);
  Tensor dy = branch_gradient(pass, down, RandomSite::mlp_branch_dropout, dx, ws);
  if (a.u_again) {
    normalise(pass, w.mlp_norm, a.x_mid, a.h2);
    mlp_forward(pass, layer, a, ws, true, reads_input(pass, w.down, down));
  } else if (reads_input(pass, w.down, down)) {
    activation_fwd(pass.config.activation, a.u, a.g);
  }
  linear_backward(pass, w.down, down, a.g, dy, ws.dg, false, lora(Projection::down), ws);
  mlp_backward(pass, layer, a, ws);
  layernorm_bwd(ws.dh, a.x_mid, w.mlp_norm.weight->value, a.mean2, a.rstd2, dx, true,
                w.mlp_norm.weight->grad, w.mlp_norm.bias->grad);

  if (before) before(2 * layer);
  dy = branch_gradient(pass, out, RandomSite::attention_branch_dropout, dx, ws);
  linear_backward(pass, w.out, out, a.ctx, dy, ws.dctx, false, lora(Projection::out), ws);
  attention_bwd(attention_params(pass, layer), ws.dctx, a.q, a.k, a.v, a.ctx, a.lse, ws.dq, ws.dk,
                ws.dv, ws.attention);
  rotate(pass, ws.dq, true);
  rotate(pass, ws.dk, true);
  const Site q{layer, Projection::q}, k{layer, Projection::k}, v{layer, Projection::v};
  if (reads_input(pass, w.q, q) || reads_input(pass, w.k, k) || reads_input(pass, w.v, v))
    normalise(pass, w.attn_norm, x_in, a.h1);
  const Tensor dh = stop && !w.attn_norm.weight->grad ? Tensor{} : ws.dh;
  linear_backward(pass, w.q, q, a.h1, ws.dq, dh, false, lora(Projection::q), ws);
  linear_backward(pass, w.k, k, a.h1, ws.dk, dh, true, lora(Projection::k), ws);
  linear_backward(pass, w.v, v, a.h1, ws.dv, dh, true, lora(Projection::v), ws);
  if (dh)
    layernorm_bwd(dh, x_in, w.attn_norm.weight->value, a.mean1, a.rstd1, dx, true,
                  w.attn_norm.weight->grad, w.attn_norm.bias->grad);
}

}  // namespace moltide
