// What the losses share: refusals, and the walk over the terms that are present.
#pragma once
#include <cmath>

#include "core/check.h"
#include "core/expect.h"
#include "core/tensor.h"

namespace moltide::loss {

inline void check_shapes(const char* op, const Tensor& pred, const Tensor& target,
                         const Tensor& dpred) {
  expect_f32(op, "pred", pred, pred.rows, pred.cols);
  expect_f32(op, "target", target, pred.rows, pred.cols);
  if (dpred) expect_f32(op, "gradient", dpred, pred.rows, pred.cols);
}

inline double row_weight(const char* op, const float* weight, int64_t row) {
  if (!weight) return 1.0;
  MOLTIDE_CHECK(std::isfinite(weight[row]) && weight[row] >= 0.0f, op, ": weight of row ", row,
                " is ", weight[row], ", allowed: finite, 0 or above");
  return weight[row];
}

// NaN when the target is missing.
inline double target_at(const char* op, const Tensor& target, int64_t row, int64_t column) {
  const float y = static_cast<const float*>(target.at(row))[column];
  MOLTIDE_CHECK(!std::isinf(y), op, ": target of row ", row, ", column ", column,
                " is infinite, allowed: finite, or NaN for missing");
  return y;
}

// term(row, column, pred, target, weight, &gradient) -> loss, unweighted. The order of the sum is
// that of the rows.
template <class Term>
double sum_terms(const char* op, const Tensor& pred, const Tensor& target, const float* weight,
                 double scale, const Tensor& dpred, Term&& term) {
  check_shapes(op, pred, target, dpred);
  double total = 0.0;
  for (int64_t i = 0; i < pred.rows; ++i) {
    const double w = row_weight(op, weight, i);
    const float* x = static_cast<const float*>(pred.at(i));
    float* dx = dpred ? static_cast<float*>(dpred.at(i)) : nullptr;
    for (int64_t c = 0; c < pred.cols; ++c) {
      const double y = target_at(op, target, i, c);
      double gradient = 0.0;
      if (!std::isnan(y) && w > 0.0)
        total += w * term(i, c, static_cast<double>(x[c]), y, w, gradient);
      if (dx) dx[c] = static_cast<float>(scale * w * gradient);
    }
  }
  return total;
}

}  // namespace moltide::loss
