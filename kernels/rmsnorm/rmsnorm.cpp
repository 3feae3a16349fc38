#include "rmsnorm/rmsnorm.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "rmsnorm/rmsnorm_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, rmsnorm_fwd_rows, const RmsNormFwd& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, rmsnorm_bwd_rows, const RmsNormBwd& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, rmsnorm_bwd_columns, const RmsNormBwd& p, int64_t begin, int64_t end)

void rmsnorm_fwd(const Tensor& x, const float* w, float eps, const Tensor& y, float* rstd) {
  expect_f32("rmsnorm_fwd", "x", x, x.rows, x.cols);
  expect_shape("rmsnorm_fwd", "y", y, x.rows, x.cols);
  expect_memory("rmsnorm_fwd", "weight", w, x.cols);
  MOLTIDE_CHECK(eps >= 0.0f, "rmsnorm_fwd: eps is ", eps, ", allowed: 0 or above");
  const RmsNormFwd p{x.f32(), x.ld, x.cols, w, eps, y.data, y.ld, y.dtype, rstd};
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(rmsnorm_fwd_rows, p, begin, end);
  });
}

void rmsnorm_bwd(const Tensor& dy, const Tensor& x, const float* w, const float* rstd,
                 const Tensor& dx, bool accumulate, float* dw) {
  expect_f32("rmsnorm_bwd", "x", x, x.rows, x.cols);
  expect_shape("rmsnorm_bwd", "dy", dy, x.rows, x.cols);
  expect_f32("rmsnorm_bwd", "dx", dx, x.rows, x.cols);
  expect_memory("rmsnorm_bwd", "weight", w, x.cols);
  expect_memory("rmsnorm_bwd", "rstd", rstd, x.rows);
  MOLTIDE_CHECK(!accumulate || dx.data != dy.data || x.rows == 0,
                "rmsnorm_bwd: dx cannot be both dy and added to");
  const RmsNormBwd p{dy.data, dy.ld, dy.dtype, x.f32(), x.ld,       x.rows, x.cols,
                     w,       rstd,  dx.f32(), dx.ld,   accumulate, dw};
  // Columns first: dx may overwrite dy.
  if (dw) {
    constexpr int64_t kUnit = 64;  // columns: a cache line's multiple, the walk over T is strided
    parallel_for((x.cols + kUnit - 1) / kUnit, row_grain(x.rows * kUnit),
                 [&](int64_t begin, int64_t end) {
                   const int64_t last = end * kUnit < x.cols ? end * kUnit : x.cols;
                   MOLTIDE_CPU_CALL(rmsnorm_bwd_columns, p, begin * kUnit, last);
                 });
  }
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(rmsnorm_bwd_rows, p, begin, end);
  });
}

}  // namespace moltide
