#include "layernorm_quantize/layernorm_quantize.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "layernorm_quantize/layernorm_quantize_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, layernorm_quantize_rows, const LayerNormQuantize& p, float* row, int64_t begin,
               int64_t end)

void layernorm_quantize(const Tensor& x, const float* w, const float* b, float eps,
                        const Int8Rows& q) {
  constexpr const char* kOp = "layernorm_quantize";
  expect_f32(kOp, "x", x, q.rows, q.cols);
  expect_int8(kOp, "q", q);
  expect_memory(kOp, "weight", w, x.cols);
  expect_memory(kOp, "bias", b, x.cols);
  MOLTIDE_CHECK(eps >= 0.0f, kOp, ": eps is ", eps, ", allowed: 0 or above");
  const LayerNormQuantize p{x.f32(), x.ld, x.cols, w, b, eps, q.data, q.ld, q.scale};
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    float* row = static_cast<float*>(
        thread_scratch(Scratch::op, static_cast<size_t>(p.cols) * sizeof(float)));
    MOLTIDE_CPU_CALL(layernorm_quantize_rows, p, row, begin, end);
  });
}

}  // namespace moltide
