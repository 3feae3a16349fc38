// Columns of several kinds in one pass, every term with a weight of its own.
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/expect.h"
#include "loss/loss.h"
#include "loss/terms.h"

namespace moltide {
namespace {

double weight_at(const char* op, const float* weight, int64_t row, int64_t column,
                 int64_t columns) {
  if (!weight) return 1.0;
  const float w = weight[row * columns + column];
  MOLTIDE_CHECK(std::isfinite(w) && w >= 0.0f, op, ": weight of row ", row, ", column ", column,
                " is ", w, ", allowed: finite, 0 or above");
  return w;
}

}  // namespace

double mixed(const Tensor& pred, const Tensor& target, const int8_t* censor, const TermLoss* column,
             double huber_delta, const float* log_sigma, const float* weight, double scale,
             const Tensor& dpred, float* dlog_sigma) {
  const size_t columns = static_cast<size_t>(pred.cols);
  expect_memory("mixed", "column", column, pred.cols);
  static thread_local std::vector<double> sigma, dlog;  // kept from step to step
  sigma.assign(columns, 1.0);
  dlog.assign(columns, 0.0);
  for (size_t c = 0; c < columns; ++c) {
    MOLTIDE_CHECK(column[c] != TermLoss::huber || (std::isfinite(huber_delta) && huber_delta > 0.0),
                  "mixed: huber delta is ", huber_delta, ", allowed: finite, above 0");
    if (column[c] != TermLoss::tobit) continue;
    MOLTIDE_CHECK(log_sigma, "mixed: column ", c, " is of tobit, but there is no log_sigma");
    sigma[c] = std::exp(static_cast<double>(log_sigma[c]));
  }
  const double total = loss::sum_weighed(
      "mixed", pred, target,
      [&](int64_t i, int64_t c) { return weight_at("mixed", weight, i, c, pred.cols); }, scale,
      dpred,
      [&](int64_t i, int64_t at, double x, double y, double w, double& gradient) {
        const size_t c = static_cast<size_t>(at);
        const int8_t kind = loss::censor_at("mixed", censor, i, at, pred.cols);
        MOLTIDE_CHECK(kind == 0 || column[c] == TermLoss::tobit, "mixed: row ", i, ", column ", at,
                      " is a bound (censor ", static_cast<int>(kind),
                      "); allowed in columns of tobit");
        switch (column[c]) {
          case TermLoss::mse:
            return loss::mse_term(x, y, gradient);
          case TermLoss::huber:
            return loss::huber_term(x, y, huber_delta, gradient);
          case TermLoss::bce:
            return loss::bce_term("mixed", i, at, x, y, gradient);
          default: {
            double slope;
            const double value =
                loss::tobit_term(x, y, kind, sigma[c], log_sigma[c], gradient, slope);
            dlog[c] += w * slope;
            return value;
          }
        }
      });
  if (dlog_sigma)
    for (size_t c = 0; c < columns; ++c)
      if (column[c] == TermLoss::tobit) dlog_sigma[c] += static_cast<float>(scale * dlog[c]);
  return total;
}

double term_weight(const Tensor& target, const float* weight) {
  double total = 0.0;
  for (int64_t i = 0; i < target.rows; ++i)
    for (int64_t c = 0; c < target.cols; ++c)
      if (!std::isnan(loss::target_at("term_weight", target, i, c)))
        total += weight_at("term_weight", weight, i, c, target.cols);
  return total;
}

}  // namespace moltide
