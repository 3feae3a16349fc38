#include "dropout/dropout.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "dropout/dropout_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, dropout_rows, const DropoutRows& p, int64_t begin, int64_t end)

void dropout(const Tensor& x, const Tensor& y, float p, uint64_t seed, uint64_t stream) {
  expect_shape("dropout", "x", x, x.rows, x.cols);
  expect_shape("dropout", "y", y, x.rows, x.cols);
  expect_dtype("dropout", "y", y, x.dtype);
  MOLTIDE_CHECK(p >= 0.0f && p < 1.0f, "dropout: p is ", p, ", allowed: [0, 1)");
  const DropoutRows rows{x.data, x.ld, y.data, y.ld, x.cols, x.dtype, p, seed, stream};
  parallel_for(x.rows, row_grain(4 * x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(dropout_rows, rows, begin, end);
  });
}

}  // namespace moltide
