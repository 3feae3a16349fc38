#include <vector>

#include "core/check.h"
#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "loss/cross_entropy_params.h"
#include "loss/loss.h"
#include "loss/terms.h"

namespace moltide {

MOLTIDE_CPU_OP(void, cross_entropy_rows, const CrossEntropyRows& rows, int64_t begin, int64_t end)

double cross_entropy(const Tensor& logits, const int32_t* label, const float* weight, double scale,
                     const Tensor& dlogits) {
  const int64_t n = logits.rows, classes = logits.cols;
  constexpr const char* op = "cross_entropy";
  expect_f32(op, "logits", logits, n, classes);
  if (dlogits) expect_shape(op, "gradient", dlogits, n, classes);
  expect_memory(op, "label", label, n);
  static thread_local std::vector<double> row_loss;  // kept from step to step
  row_loss.assign(static_cast<size_t>(n), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    MOLTIDE_CHECK(label[i] >= -1 && label[i] < classes, op, ": label of row ", i, " is ", label[i],
                  ", allowed: 0 to ", classes - 1, ", or -1 for none");
    loss::row_weight(op, weight, i);
  }
  const CrossEntropyRows rows{logits.f32(),  logits.ld,      label,        weight,
                              scale,         classes,        dlogits.data, dlogits.ld,
                              dlogits.dtype, row_loss.data()};
  const int64_t grain = classes > 0 ? 8192 / classes + 1 : n;
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(cross_entropy_rows, rows, begin, end);
  });
  double total = 0.0;
  for (const double value : row_loss) total += value;
  return total;
}

}  // namespace moltide
