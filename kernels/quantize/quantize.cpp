#include "quantize/quantize.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "quantize/quantize_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, quantize_rows, const QuantizeRows& p, int64_t begin, int64_t end)

void quantize(const Tensor& x, const Int8Rows& q) {
  expect_shape("quantize", "x", x, q.rows, q.cols);
  expect_int8("quantize", "q", q);
  const QuantizeRows p{x.data, x.ld, x.cols, x.dtype, q.data, q.ld, q.scale};
  parallel_for(x.rows, row_grain(x.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(quantize_rows, p, begin, end); });
}

}  // namespace moltide
