#include "model/head.h"

#include <cmath>

#include "core/philox.h"
#include "dropout/dropout.h"
#include "mlp_act/mlp_act.h"
#include "model/skip_head.h"
#include "residual/residual.h"

namespace moltide {
namespace {

void fill_normal(Param& p, float deviation, uint64_t seed, uint64_t stream) {
  for (int64_t i = 0; i < p.size(); ++i) {
    const PhiloxBlock draw = philox4x32(seed, static_cast<uint64_t>(i), stream);
    const double radius = std::sqrt(-2.0 * std::log(1.0 - philox_uniform(draw.v[0])));
    p.value[i] = static_cast<float>(
        deviation * radius * std::cos(2.0 * 3.14159265358979323846 * philox_uniform(draw.v[1])));
  }
}

const Tensor& hidden_source(const HeadActivations& a) {
  return a.u ? a.h : a.input;
}

}  // namespace

Head::Head(const HeadConfig& c, int64_t width, uint64_t seed) : config(c) {
  MOLTIDE_CHECK(c.outputs >= 1, "head: outputs = ", c.outputs, ", allowed 1 or more");
  MOLTIDE_CHECK(c.hidden >= 0, "head: hidden = ", c.hidden, ", allowed 0 (none) or a width");
  MOLTIDE_CHECK(c.dropout >= 0 && c.dropout < 1, "head: dropout = ", c.dropout, ", allowed [0, 1)");
  const bool skip = c.form == HeadConfig::Form::skip;
  MOLTIDE_CHECK(!skip || c.hidden == width, "head: hidden = ", c.hidden,
                ", allowed the encoder's width ", width, " with form = skip");
  int64_t in = width;
  if (skip) {
    dense2.weight = table.add("head.dense2.weight", {width, width}, true);
    dense2.bias = table.add("head.dense2.bias", {width}, false);
  }
  if (c.hidden > 0) {
    dense.weight = table.add("head.dense.weight", {c.hidden, width}, true);
    dense.bias = table.add("head.dense.bias", {c.hidden}, false);
    in = c.hidden;
  }
  out.weight = table.add("head.out.weight", {c.outputs, in}, true);
  out.bias = table.add("head.out.bias", {c.outputs}, false);
  if (c.log_sigma) log_sigma = table.add("head.log_sigma", {c.outputs}, false);
  table.allocate();
  uint64_t index = 0;
  for (Linear* l : {&dense, &out, &dense2})
    if (l->weight)
      fill_normal(
          *l->weight, 0.02f, seed,
          random_stream(++index, 0xffff, static_cast<uint32_t>(RandomSite::initialisation)));
}

Specials specials(const EncoderConfig& c) {
  return {c.cls_token >= 0 ? 1 : 0, c.eos_token >= 0 ? 1 : 0};
}

Specials unpooled(const EncoderConfig& c) {
  return c.pool_specials ? Specials{0, 0} : specials(c);
}

HeadActivations plan_head(const HeadConfig& c, int64_t width, int64_t tokens, int64_t batch,
                          bool train, Cursor& at) {
  const int64_t n = c.pool == HeadConfig::Input::residue ? tokens : batch;
  HeadActivations a;
  a.input = at.tensor(n, width, DType::f32);
  if (c.hidden > 0) {
    a.u = at.tensor(n, c.hidden, DType::f32);
    a.h = at.tensor(n, c.hidden, DType::f32);
  }
  const int64_t hidden = c.hidden > 0 ? c.hidden : width;
  const bool skip = c.form == HeadConfig::Form::skip;
  if (skip) a.u2 = at.tensor(n, hidden, DType::f32);
  const bool own = skip || (train && c.dropout > 0);
  a.hidden = own ? at.tensor(n, hidden, DType::f32) : hidden_source(a);
  a.pred = at.tensor(n, c.outputs, DType::f32);
  if (train) {
    a.dpred = at.tensor(n, c.outputs, DType::f32);
    a.dhidden = at.tensor(n, hidden, DType::f32);
    if (skip) a.du = at.tensor(n, hidden, DType::f32);
    a.dinput = c.hidden > 0 && !skip ? at.tensor(n, width, DType::f32) : a.dhidden;
  }
  return a;
}

void head_forward(const PassContext& pass, Head& head, const Tensor& y, const HeadActivations& a) {
  const HeadConfig& c = head.config;
  const float p = pass.train ? static_cast<float>(c.dropout) : 0.0f;
  if (c.pool == HeadConfig::Input::residue) {
    copy_cast(y, a.input);
  } else {
    const Specials s = unpooled(pass.config);
    pool_fwd(c.pool == HeadConfig::Input::mean ? Pool::mean : Pool::cls, y,
             pass.batch.cu_seqlens.data(), pass.batch.batch(), s.first, s.last, a.input);
  }
  const bool skip = c.form == HeadConfig::Form::skip;
  if (skip) {
    skip_head_forward(pass, head, a);
  } else if (c.hidden > 0) {
    if (p > 0) dropout(a.input, a.input, p, pass.seed, pass.stream(0, RandomSite::head_dropout));
    matmul(a.input, head.dense.forward.get(*head.dense.weight, false, 1.0f, DType::f32),
           head.dense.bias_value(), a.u);
    activation_fwd(Activation::tanh, a.u, a.h);
  }
  if (p > 0 && !skip)
    dropout(hidden_source(a), a.hidden, p, pass.seed, pass.stream(1, RandomSite::head_dropout));
  matmul(a.hidden, head.out.forward.get(*head.out.weight, false, 1.0f, DType::f32),
         head.out.bias_value(), a.pred);
}

void head_backward(const PassContext& pass, Head& head, const HeadActivations& a,
                   const Tensor& dy) {
  const HeadConfig& c = head.config;
  const float p = pass.train ? static_cast<float>(c.dropout) : 0.0f;
  auto gradients = [](const Linear& l, const Tensor& d, const Tensor& x) {
    if (l.weight->grad) matmul_dw(d, x, f32_tensor(l.weight->grad, l.out(), l.in()), l.bias->grad);
  };
  gradients(head.out, a.dpred, a.hidden);
  matmul(a.dpred, head.out.backward.get(*head.out.weight, true, 1.0f, DType::f32), nullptr,
         a.dhidden);
  const bool skip = c.form == HeadConfig::Form::skip;
  if (p > 0 && !skip)
    dropout(a.dhidden, a.dhidden, p, pass.seed, pass.stream(1, RandomSite::head_dropout));
  if (skip) {
    skip_head_backward(pass, head, a);
  } else if (c.hidden > 0) {
    activation_bwd(Activation::tanh, a.dhidden, a.u, a.dhidden);
    gradients(head.dense, a.dhidden, a.input);
    matmul(a.dhidden, head.dense.backward.get(*head.dense.weight, true, 1.0f, DType::f32), nullptr,
           a.dinput);
    if (p > 0) dropout(a.dinput, a.dinput, p, pass.seed, pass.stream(0, RandomSite::head_dropout));
  }
  if (!dy) return;
  if (c.pool == HeadConfig::Input::residue) {
    copy_cast(a.dinput, dy);
    return;
  }
  const Specials s = unpooled(pass.config);
  pool_bwd(c.pool == HeadConfig::Input::mean ? Pool::mean : Pool::cls, a.dinput,
           pass.batch.cu_seqlens.data(), pass.batch.batch(), s.first, s.last, dy);
}

}  // namespace moltide
