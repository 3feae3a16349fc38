#include "model/int8.h"

#include <initializer_list>

#include "layernorm_quantize/layernorm_quantize.h"
#include "matmul_i8/matmul_i8.h"
#include "model/attend.h"
#include "model/norms.h"
#include "quantize/quantize.h"
#include "residual/residual.h"

namespace moltide {
namespace {

void multiply(Linear& linear, const Int8Rows& x, const Tensor& y,
              Int8Epilogue epilogue = Int8Epilogue::store) {
  matmul_i8(x, linear.int8.get(*linear.weight), linear.bias_value(), y, epilogue);
}

// Opens a half: its input, x or the norm of it, as int8 for the projections. Returns the same in
// the activations' type, if adapters at these sites read it: h, or x itself.
Tensor open_half_int8(const PassContext& pass, int64_t layer, const HalfNorm& norm, const Tensor& x,
                      std::initializer_list<Projection> sites, const Int8Rows& codes,
                      const Tensor& h) {
  bool adapted = false;
  for (Projection p : sites) adapted = adapted || has_adapter(pass, {layer, p});
  if (!norm.joins) {
    norm_quantize(norm.weights, x, codes);
    if (adapted) norm_forward(*norm.weights, x, h);
    return h;
  }
  if (norm.weights) norm_forward(*norm.weights, x, x);
  quantize(x, codes);
  if (pass.act == DType::f32) return x;
  if (adapted) copy_cast(x, h);
  return h;
}

// x += scale * projection of the input, given as int8 and, for adapters, in the activations' type.
void add_branch(const PassContext& pass, Linear& linear, Site site, const Int8Rows& codes,
                const Tensor& input, const Tensor& x, const LayerActivations& a,
                const Workspace& ws) {
  const Tensor& lora = a.lora[static_cast<int>(site.projection)];
  const bool scaled = pass.config.residual_scale != 1.0;
  const Tensor& y = scaled ? ws.branch : x;
  multiply(linear, codes, y, scaled ? Int8Epilogue::store : Int8Epilogue::accumulate);
  adapters_forward(pass, site, input, y, lora, ws);
  if (scaled) residual_add(x, y, static_cast<float>(pass.config.residual_scale));
}

// f(begin, end, adapted) over all rows, in runs whose sequences do or do not adapt the MLP.
template <class F>
void for_each_run(const PassContext& pass, int64_t layer, F f) {
  int64_t at = 0;
  for (const AdapterSegment& s : pass.segments) {
    bool adapted = false;
    for (Projection p : {Projection::gate, Projection::up, Projection::down})
      adapted = adapted || s.adapter->pair(layer, p);
    if (!adapted) continue;
    if (at < s.begin) f(at, s.begin, false);
    f(s.begin, s.end, true);
    at = s.end;
  }
  if (at < pass.batch.count()) f(at, pass.batch.count(), false);
}

// a.h8 (h for adapters) -> a.g8, the MLP's inner vector, and a.g in the activations' type where an
// adapter reads it.
void mlp_inner(const PassContext& pass, int64_t layer, const Tensor& h, const LayerActivations& a,
               const Workspace& ws) {
  LayerWeights& w = pass.weights.layers[layer];
  const Activation activation = pass.config.activation;
  const bool swiglu = activation == Activation::swiglu;
  const int64_t f = pass.config.ffn_width;
  const auto fused = [&](bool adapted) { return activation == Activation::gelu && !adapted; };
  const auto up = [&](const Tensor& u) { return swiglu ? u.slice_cols(f, f) : u; };
  for_each_run(pass, layer, [&](int64_t begin, int64_t end, bool adapted) {
    const Int8Rows x = a.h8.slice_rows(begin, end);
    if (fused(adapted))
      return matmul_i8_gelu(x, w.up.int8.get(*w.up.weight), w.up.bias_value(),
                            a.g8.slice_rows(begin, end));
    const Tensor u = a.u.slice_rows(begin, end);
    if (swiglu) multiply(w.gate, x, u.slice_cols(0, f));
    multiply(w.up, x, up(u));
  });
  const auto adapters = [&](Projection p, const Tensor& y) {
    if (has_adapter(pass, {layer, p}))
      adapters_forward(pass, {layer, p}, h, y, a.lora[static_cast<int>(p)], ws);
  };
  adapters(Projection::up, up(a.u));
  if (swiglu) adapters(Projection::gate, a.u.slice_cols(0, f));
  for_each_run(pass, layer, [&](int64_t begin, int64_t end, bool adapted) {
    if (fused(adapted)) return;
    activation_fwd(activation, a.u.slice_rows(begin, end), a.g.slice_rows(begin, end),
                   w.beta ? w.beta->value : nullptr);
    quantize(a.g.slice_rows(begin, end), a.g8.slice_rows(begin, end));
  });
}

}  // namespace

void norm_quantize(const NormWeights* norm, const Tensor& x, const Int8Rows& codes) {
  if (!norm) return quantize(x, codes);
  layernorm_quantize(x, norm->weight->value, norm->bias->value, norm->eps, codes);
}

void block_forward_int8(const PassContext& pass, int64_t layer, const Tensor& x,
                        const LayerActivations& a, const Workspace& ws, BlockPart part) {
  LayerWeights& w = pass.weights.layers[layer];
  const BlockNorms norms = block_norms(pass.config, pass.weights, layer);
  const bool projected = part == BlockPart::after_qkv;
  if (!projected || norms.attention.joins) {
    const Tensor h = open_half_int8(pass, layer, norms.attention, x,
                                    {Projection::q, Projection::k, Projection::v}, a.h8, a.h1);
    const auto project = [&](Linear& linear, Projection p, const Tensor& y) {
      multiply(linear, a.h8, y);
      adapters_forward(pass, {layer, p}, h, y, a.lora[static_cast<int>(p)], ws);
    };
    if (!projected) {
      project(w.q, Projection::q, a.q_raw);
      project(w.k, Projection::k, a.k_raw);
      project(w.v, Projection::v, a.v);
    }
  }
  attend_forward(pass, layer, a, true);
  quantize(a.ctx, a.ctx8);
  add_branch(pass, w.out, {layer, Projection::out}, a.ctx8, a.ctx, x, a, ws);

  const Tensor h =
      open_half_int8(pass, layer, norms.mlp, x, {Projection::gate, Projection::up}, a.h8, a.h2);
  mlp_inner(pass, layer, h, a, ws);
  add_branch(pass, w.down, {layer, Projection::down}, a.g8, a.g, x, a, ws);
}

void lm_head_forward_int8(const PassContext& pass, const PassActivations& p) {
  EncoderWeights& w = pass.weights;
  quantize(p.y, p.y8);
  multiply(w.lm_dense, p.y8, p.lm_g, Int8Epilogue::gelu);
  norm_quantize(&w.lm_norm, p.lm_g, p.y8);
  multiply(w.lm_decoder, p.y8, p.logits);
}

}  // namespace moltide
