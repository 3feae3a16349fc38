#include "layernorm/layernorm.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "layernorm/layernorm_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, layernorm_fwd_rows, const LayerNormFwd& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, layernorm_bwd_rows, const LayerNormBwd& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, layernorm_bwd_columns, const LayerNormBwd& p, int64_t begin, int64_t end)

namespace {

// Of x, and of y or dy.
void expect_types(const char* op, const char* name, const Tensor& x, const Tensor& y) {
  MOLTIDE_CHECK(x.dtype == DType::f32 || y.dtype == DType::bf16, op, ": x is ", describe(x),
                " and ", name, " ", describe(y), ", expected bf16 beside bf16");
}

}  // namespace

void layernorm_fwd(const Tensor& x, const float* w, const float* b, float eps, const Tensor& y,
                   float* mean, float* rstd) {
  expect_shape("layernorm_fwd", "x", x, x.rows, x.cols);
  expect_shape("layernorm_fwd", "y", y, x.rows, x.cols);
  expect_types("layernorm_fwd", "y", x, y);
  expect_memory("layernorm_fwd", "weight", w, x.cols);
  MOLTIDE_CHECK(eps >= 0.0f, "layernorm_fwd: eps is ", eps, ", allowed: 0 or above");
  const LayerNormFwd p{x.data, x.ld, x.dtype, x.cols, w, b, eps, y.data, y.ld, y.dtype, mean, rstd};
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(layernorm_fwd_rows, p, begin, end);
  });
}

void layernorm_bwd(const Tensor& dy, const Tensor& x, const float* w, const float* mean,
                   const float* rstd, const Tensor& dx, bool accumulate, float* dw, float* db) {
  expect_shape("layernorm_bwd", "x", x, x.rows, x.cols);
  expect_shape("layernorm_bwd", "dy", dy, x.rows, x.cols);
  expect_types("layernorm_bwd", "dy", x, dy);
  expect_shape("layernorm_bwd", "dx", dx, x.rows, x.cols);
  expect_dtype("layernorm_bwd", "dx", dx, x.dtype);
  expect_memory("layernorm_bwd", "weight", w, x.cols);
  expect_memory("layernorm_bwd", "mean", mean, x.rows);
  expect_memory("layernorm_bwd", "rstd", rstd, x.rows);
  MOLTIDE_CHECK(!accumulate || dx.data != dy.data || x.rows == 0,
                "layernorm_bwd: dx cannot be both dy and added to");
  const LayerNormBwd p{dy.data, dy.ld, dy.dtype, x.data,  x.ld,  x.dtype,    x.rows, x.cols,
                       w,       mean,  rstd,     dx.data, dx.ld, accumulate, dw,     db};
  // Columns first: dx may overwrite dy.
  if (dw || db) {
    constexpr int64_t kUnit = 64;  // columns: a cache line's multiple, the walk over T is strided
    parallel_for((x.cols + kUnit - 1) / kUnit, row_grain(x.rows * kUnit),
                 [&](int64_t begin, int64_t end) {
                   const int64_t last = end * kUnit < x.cols ? end * kUnit : x.cols;
                   MOLTIDE_CPU_CALL(layernorm_bwd_columns, p, begin * kUnit, last);
                 });
  }
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(layernorm_bwd_rows, p, begin, end);
  });
}

}  // namespace moltide
