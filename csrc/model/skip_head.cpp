#include "model/skip_head.h"

#include "core/philox.h"
#include "dropout/dropout.h"
#include "mlp_act/mlp_act.h"
#include "residual/residual.h"

namespace moltide {
namespace {

void drop(const PassContext& pass, const Head& head, int64_t layer, const Tensor& x) {
  const float p = pass.train ? static_cast<float>(head.config.dropout) : 0.0f;
  if (p > 0) dropout(x, x, p, pass.seed, pass.stream(layer, RandomSite::head_dropout));
}

// h = x + gelu(dropout(x W^T + b)); u: what gelu reads.
void layer_forward(const PassContext& pass, const Head& head, int64_t layer, Linear& dense,
                   const Tensor& x, const Tensor& u, const Tensor& h) {
  matmul(x, dense.forward.get(*dense.weight, false, 1.0f, DType::f32), dense.bias_value(), u);
  drop(pass, head, layer, u);
  activation_fwd(Activation::gelu, u, h);
  residual_add(h, x, 1.0f);
}

// dh becomes the gradient of x.
void layer_backward(const PassContext& pass, const Head& head, int64_t layer, Linear& dense,
                    const Tensor& x, const Tensor& u, const Tensor& dh, const Tensor& du) {
  activation_bwd(Activation::gelu, dh, u, du);
  drop(pass, head, layer, du);
  if (dense.weight->grad)
    matmul_dw(du, x, f32_tensor(dense.weight->grad, dense.out(), dense.in()), dense.bias->grad);
  matmul(du, dense.backward.get(*dense.weight, true, 1.0f, DType::f32), nullptr, dh,
         Epilogue::accumulate);
}

}  // namespace

void skip_head_forward(const PassContext& pass, Head& head, const HeadActivations& a) {
  layer_forward(pass, head, 0, head.dense, a.input, a.u, a.h);
  layer_forward(pass, head, 1, head.dense2, a.h, a.u2, a.hidden);
}

void skip_head_backward(const PassContext& pass, Head& head, const HeadActivations& a) {
  layer_backward(pass, head, 1, head.dense2, a.h, a.u2, a.dhidden, a.du);
  layer_backward(pass, head, 0, head.dense, a.input, a.u, a.dhidden, a.du);
}

}  // namespace moltide
