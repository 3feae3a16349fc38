// Censored Gaussian likelihood.
#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/expect.h"
#include "loss/loss.h"
#include "loss/terms.h"

namespace moltide {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kInvSqrtTwoPi = 0.39894228040143267794;

// phi(x) / Phi(-x), x >= kTail, by Laplace's continued fraction x + 1/(x + 2/(x + 3/(x + ...))).
// At x = 5 thirty levels leave a relative error below 1e-18, and fewer are needed beyond.
constexpr double kTail = 5.0;
constexpr int kLevels = 30;

double inverse_mills(double x) {
  double value = x;
  for (int level = kLevels; level >= 1; --level) value = x + level / value;
  return value;
}

}  // namespace

double log_normal_cdf(double z, double* ratio) {
  if (z < -kTail) {
    *ratio = inverse_mills(-z);
    return -0.5 * z * z - loss::kHalfLogTwoPi - std::log(*ratio);
  }
  const double lower = 0.5 * std::erfc(-z * kSqrtHalf);
  *ratio = kInvSqrtTwoPi * std::exp(-0.5 * z * z) / lower;
  // Phi near 1: its logarithm comes from the small upper tail.
  return z > 0.0 ? std::log1p(-0.5 * std::erfc(z * kSqrtHalf)) : std::log(lower);
}

double tobit(const Tensor& pred, const Tensor& target, const int8_t* censor, const float* log_sigma,
             const float* weight, double scale, const Tensor& dpred, float* dlog_sigma) {
  expect_memory("tobit", "log_sigma", log_sigma, pred.cols);
  const size_t columns = static_cast<size_t>(pred.cols);
  static thread_local std::vector<double> sigma, dlog;  // kept from step to step
  sigma.assign(columns, 0.0);
  dlog.assign(columns, 0.0);
  for (size_t c = 0; c < columns; ++c) sigma[c] = std::exp(static_cast<double>(log_sigma[c]));
  const double total = loss::sum_terms(
      "tobit", pred, target, weight, scale, dpred,
      [&](int64_t row, int64_t column, double x, double y, double w, double& gradient) {
        const size_t c = static_cast<size_t>(column);
        const int8_t kind = loss::censor_at("tobit", censor, row, column, pred.cols);
        double slope;
        const double value = loss::tobit_term(x, y, kind, sigma[c], log_sigma[c], gradient, slope);
        dlog[c] += w * slope;
        return value;
      });
  if (dlog_sigma)
    for (size_t c = 0; c < columns; ++c) dlog_sigma[c] += static_cast<float>(scale * dlog[c]);
  return total;
}

}  // namespace moltide
