#include "mlp_act/mlp_act.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, activation_fwd_rows, const ActivationRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, activation_bwd_rows, const ActivationRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, swiglu_bwd_beta_rows, const ActivationRows& p, int64_t begin, int64_t end)

namespace {

int64_t inputs_per_output(Activation activation) {
  return activation == Activation::swiglu ? 2 : 1;
}

// Only swiglu has a beta.
float slope(const char* op, Activation activation, const float* beta) {
  MOLTIDE_CHECK(!beta || activation == Activation::swiglu, op, ": beta goes with swiglu alone");
  return beta ? *beta : 1.0f;
}

// An activation costs some twenty operations an element: smaller grains than a copy's.
int64_t grain(int64_t cols) {
  return row_grain(8 * cols);
}

}  // namespace

void activation_fwd(Activation activation, const Tensor& u, const Tensor& y, const float* beta) {
  expect_shape("activation_fwd", "u", u, y.rows, y.cols * inputs_per_output(activation));
  expect_shape("activation_fwd", "y", y, y.rows, y.cols);
  expect_dtype("activation_fwd", "y", y, u.dtype);
  ActivationRows p{activation, u.dtype, y.cols, u.data, u.ld, nullptr, 0, y.data, y.ld, 1, nullptr};
  p.beta = slope("activation_fwd", activation, beta);
  parallel_for(y.rows, grain(y.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(activation_fwd_rows, p, begin, end);
  });
}

void activation_bwd(Activation activation, const Tensor& dy, const Tensor& u, const Tensor& du,
                    const float* beta) {
  const int64_t u_cols = dy.cols * inputs_per_output(activation);
  expect_shape("activation_bwd", "dy", dy, dy.rows, dy.cols);
  expect_shape("activation_bwd", "u", u, dy.rows, u_cols);
  expect_shape("activation_bwd", "du", du, dy.rows, u_cols);
  expect_dtype("activation_bwd", "u", u, dy.dtype);
  expect_dtype("activation_bwd", "du", du, dy.dtype);
  ActivationRows p{activation, u.dtype, dy.cols, u.data, u.ld,   dy.data,
                   dy.ld,      du.data, du.ld,   1,      nullptr};
  p.beta = slope("activation_bwd", activation, beta);
  parallel_for(dy.rows, grain(dy.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(activation_bwd_rows, p, begin, end);
  });
}

void swiglu_bwd_beta(const Tensor& dy, const Tensor& u, float beta, float* rows, float* dbeta) {
  constexpr const char* kOp = "swiglu_bwd_beta";
  expect_shape(kOp, "dy", dy, dy.rows, dy.cols);
  expect_shape(kOp, "u", u, dy.rows, 2 * dy.cols);
  expect_dtype(kOp, "u", u, dy.dtype);
  expect_memory(kOp, "rows", rows, dy.rows);
  const ActivationRows p{
      Activation::swiglu, u.dtype, dy.cols, u.data, u.ld, dy.data, dy.ld, nullptr, 0, beta, rows};
  parallel_for(dy.rows, grain(dy.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(swiglu_bwd_beta_rows, p, begin, end);
  });
  double sum = 0;
  for (int64_t t = 0; t < dy.rows; ++t) sum += rows[t];
  *dbeta += static_cast<float>(sum);
}

}  // namespace moltide
