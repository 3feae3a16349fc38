// What the losses share: refusals, the walk over the terms that are present, and terms themselves.
#pragma once
#include <cmath>
#include <utility>

#include "core/check.h"
#include "core/expect.h"
#include "core/tensor.h"
#include "loss/loss.h"

namespace moltide::loss {

inline constexpr double kHalfLogTwoPi = 0.91893853320467274178;

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

// term(row, column, pred, target, weight, &gradient) -> loss, unweighted; weigh(row, column) -> its
// weight. The order of the sum is that of the rows.
template <class Weigh, class Term>
double sum_weighed(const char* op, const Tensor& pred, const Tensor& target, Weigh&& weigh,
                   double scale, const Tensor& dpred, Term&& term) {
  check_shapes(op, pred, target, dpred);
  double total = 0.0;
  for (int64_t i = 0; i < pred.rows; ++i) {
    const float* x = static_cast<const float*>(pred.at(i));
    float* dx = dpred ? static_cast<float*>(dpred.at(i)) : nullptr;
    for (int64_t c = 0; c < pred.cols; ++c) {
      const double w = weigh(i, c);
      const double y = target_at(op, target, i, c);
      double gradient = 0.0;
      if (!std::isnan(y) && w > 0.0)
        total += w * term(i, c, static_cast<double>(x[c]), y, w, gradient);
      if (dx) dx[c] = static_cast<float>(scale * w * gradient);
    }
  }
  return total;
}

template <class Term>
double sum_terms(const char* op, const Tensor& pred, const Tensor& target, const float* weight,
                 double scale, const Tensor& dpred, Term&& term) {
  return sum_weighed(
      op, pred, target, [&](int64_t row, int64_t) { return row_weight(op, weight, row); }, scale,
      dpred, std::forward<Term>(term));
}

inline double mse_term(double x, double y, double& gradient) {
  const double d = x - y;
  gradient = 2.0 * d;
  return d * d;
}

inline double huber_term(double x, double y, double delta, double& gradient) {
  const double d = x - y;
  if (std::fabs(d) > delta) {
    gradient = d > 0.0 ? delta : -delta;
    return delta * (std::fabs(d) - 0.5 * delta);
  }
  gradient = d;
  return 0.5 * d * d;
}

inline double bce_term(const char* op, int64_t row, int64_t column, double x, double y,
                       double& gradient) {
  MOLTIDE_CHECK(y >= 0.0 && y <= 1.0, op, ": target of row ", row, ", column ", column, " is ", y,
                ", allowed: 0 to 1");
  // exp of a non-positive number alone: neither side overflows.
  const double e = std::exp(-std::fabs(x));
  gradient = (x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e)) - y;
  return (x > 0.0 ? x : 0.0) - x * y + std::log1p(e);
}

inline int8_t censor_at(const char* op, const int8_t* censor, int64_t row, int64_t column,
                        int64_t columns) {
  const int8_t kind = censor ? censor[row * columns + column] : 0;
  MOLTIDE_CHECK(kind >= -1 && kind <= 1, op, ": censor of row ", row, ", column ", column, " is ",
                static_cast<int>(kind), ", allowed: -1, 0, 1");
  return kind;
}

// `slope` is the derivative by log_sigma. Above the limit with probability Phi(-z), below it with
// Phi(z).
inline double tobit_term(double x, double y, int8_t kind, double sigma, float log_sigma,
                         double& gradient, double& slope) {
  const double z = (y - x) / sigma;
  if (kind == 0) {
    gradient = -z / sigma;
    slope = 1.0 - z * z;
    return 0.5 * z * z + log_sigma + kHalfLogTwoPi;
  }
  const double side = kind > 0 ? -1.0 : 1.0;
  double ratio;
  const double value = -log_normal_cdf(side * z, &ratio);
  gradient = side * ratio / sigma;
  slope = side * ratio * z;
  return value;
}

}  // namespace moltide::loss
