#include "model/block.h"

#include <cstring>

#include "core/philox.h"
#include "dropout/dropout.h"
#include "model/attend.h"
#include "model/norms.h"
#include "residual/residual.h"

namespace moltide {
namespace {

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

const float* slope(const LayerWeights& w) {
  return w.beta ? w.beta->value : nullptr;
}

// h -> a.u and a.g, as far as they are wanted; the other may be written too.
void mlp_forward(const PassContext& pass, int64_t layer, const Tensor& h, const LayerActivations& a,
                 const Workspace& ws, bool wants_u, bool wants_g) {
  LayerWeights& w = pass.weights.layers[layer];
  const Site up{layer, Projection::up}, gate{layer, Projection::gate};
  const Tensor& lora_up = a.lora[static_cast<int>(Projection::up)];
  const Activation activation = pass.config.activation;
  if (activation == Activation::swiglu) {
    const int64_t f = pass.config.ffn_width;
    linear_forward(pass, w.gate, gate, h, a.u.slice_cols(0, f), Epilogue::store, nullptr,
                   a.lora[static_cast<int>(Projection::gate)], ws);
    linear_forward(pass, w.up, up, h, a.u.slice_cols(f, f), Epilogue::store, nullptr, lora_up, ws);
    if (wants_g) activation_fwd(activation, a.u, a.g, slope(w));
  } else if (wants_g && activation == Activation::gelu && !has_adapter(pass, up)) {
    const Tensor* pre = wants_u ? &a.u : nullptr;
    linear_forward(pass, w.up, up, h, a.g, Epilogue::gelu, pre, lora_up, ws);
  } else {
    linear_forward(pass, w.up, up, h, a.u, Epilogue::store, nullptr, lora_up, ws);
    if (wants_g) activation_fwd(activation, a.u, a.g, slope(w));
  }
}

// dg in ws.dg -> gradient of h, what the MLP reads: dh =, or += with `accumulate`.
void mlp_backward(const PassContext& pass, int64_t layer, const HalfNorm& norm,
                  const LayerActivations& a, const Workspace& ws, const Tensor& dh,
                  bool accumulate) {
  LayerWeights& w = pass.weights.layers[layer];
  const Site up{layer, Projection::up}, gate{layer, Projection::gate};
  activation_bwd(pass.config.activation, ws.dg, a.u, ws.du, slope(w));
  if (w.beta && w.beta->grad) swiglu_bwd_beta(ws.dg, a.u, *slope(w), ws.beta, w.beta->grad);
  if (!a.u_again && (reads_input(pass, w.up, up) || reads_input(pass, w.gate, gate)))
    open_half_again(pass, norm, a.x_mid, a.h2);
  Tensor du = ws.du;
  if (pass.config.activation == Activation::swiglu) {
    const int64_t f = pass.config.ffn_width;
    linear_backward(pass, w.gate, gate, a.h2, ws.du.slice_cols(0, f), dh, accumulate,
                    a.lora[static_cast<int>(Projection::gate)], ws);
    du = ws.du.slice_cols(f, f);
  }
  linear_backward(pass, w.up, up, a.h2, du, dh, accumulate || w.gate.weight,
                  a.lora[static_cast<int>(Projection::up)], ws);
}

}  // namespace

void block_forward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& x_out,
                   const LayerActivations& a, const Workspace& ws, BlockPart part) {
  LayerWeights& w = pass.weights.layers[layer];
  const BlockNorms norms = block_norms(pass.config, pass.weights, layer);
  auto lora = [&](Projection p) { return a.lora[static_cast<int>(p)]; };

  const bool projected = part == BlockPart::after_qkv;
  if (!projected || norms.attention.joins) {
    const Tensor h = open_half(pass, norms.attention, x_in, a.x_mid, a.h1, a.mean1, a.rstd1);
    const auto project = [&](Linear& linear, Projection p, const Tensor& y) {
      linear_forward(pass, linear, {layer, p}, h, y, Epilogue::store, nullptr, lora(p), ws);
    };
    if (!projected) {
      project(w.q, Projection::q, a.q_raw);
      project(w.k, Projection::k, a.k_raw);
      project(w.v, Projection::v, a.v);
    }
  }
  attend_forward(pass, layer, a, false);
  if (!norms.attention.joins && a.x_mid.data != x_in.data) copy_cast(x_in, a.x_mid);
  add_branch(pass, w.out, {layer, Projection::out}, RandomSite::attention_branch_dropout, a.ctx,
             a.x_mid, a, ws);

  const Tensor h = open_half(pass, norms.mlp, a.x_mid, x_out, a.h2, a.mean2, a.rstd2);
  const Site down{layer, Projection::down};
  mlp_forward(pass, layer, h, a, ws, !a.u_again && a.u.data != a.g.data,
              part != BlockPart::inner || has_adapter(pass, down));
  if (part == BlockPart::inner) {
    adapters_forward(pass, down, a.g, Tensor{}, lora(Projection::down), ws);
    return;
  }
  if (!norms.mlp.joins && x_out.data != a.x_mid.data) copy_cast(a.x_mid, x_out);
  add_branch(pass, w.down, down, RandomSite::mlp_branch_dropout, a.g, x_out, a, ws);
}

void block_backward(const PassContext& pass, int64_t layer, const Tensor& x_in, const Tensor& dx,
                    const LayerActivations& a, const Workspace& ws, bool stop,
                    const HalfSink& before) {
  LayerWeights& w = pass.weights.layers[layer];
  const BlockNorms norms = block_norms(pass.config, pass.weights, layer);
  auto lora = [&](Projection p) { return a.lora[static_cast<int>(p)]; };
  // Gradient of what a half's projections read: where its branch joined that, dx is a part of it.
  const auto dh_of = [&](const HalfNorm& norm) { return norm.joins ? dx : ws.dh; };

  const Site down{layer, Projection::down}, out{layer, Projection::out};
  if (before) before(2 * layer + 1);
  Tensor dy = branch_gradient(pass, down, RandomSite::mlp_branch_dropout, dx, ws);
  if (a.u_again) {
    const Tensor h = open_half_again(pass, norms.mlp, a.x_mid, a.h2);
    mlp_forward(pass, layer, h, a, ws, true, reads_input(pass, w.down, down));
  } else if (reads_input(pass, w.down, down)) {
    activation_fwd(pass.config.activation, a.u, a.g, slope(w));
  }
  linear_backward(pass, w.down, down, a.g, dy, ws.dg, false, lora(Projection::down), ws);
  Tensor dh = dh_of(norms.mlp);
  mlp_backward(pass, layer, norms.mlp, a, ws, dh, norms.mlp.joins);
  norm_backward(*norms.mlp.weights, dh, a.x_mid, a.mean2, a.rstd2, dx, !norms.mlp.joins);

  if (before) before(2 * layer);
  dy = branch_gradient(pass, out, RandomSite::attention_branch_dropout, dx, ws);
  linear_backward(pass, w.out, out, a.ctx, dy, ws.dctx, false, lora(Projection::out), ws);
  attend_backward(pass, layer, a, ws);
  const Site q{layer, Projection::q}, k{layer, Projection::k}, v{layer, Projection::v};
  Tensor h = a.h1;
  if (reads_input(pass, w.q, q) || reads_input(pass, w.k, k) || reads_input(pass, w.v, v))
    h = open_half_again(pass, norms.attention, x_in, a.h1);
  const HalfNorm& norm = norms.attention;
  dh = stop && !trained(norm.weights) ? Tensor{} : dh_of(norm);
  linear_backward(pass, w.q, q, h, ws.dq, dh, norm.joins, lora(Projection::q), ws);
  linear_backward(pass, w.k, k, h, ws.dk, dh, true, lora(Projection::k), ws);
  linear_backward(pass, w.v, v, h, ws.dv, dh, true, lora(Projection::v), ws);
  if (dh && norm.weights) norm_backward(*norm.weights, dh, x_in, a.mean1, a.rstd1, dx, !norm.joins);
}

}  // namespace moltide
