// Losses of one prediction and one target: few elements, so plain double on every instruction set.
#include <cmath>

#include "core/check.h"
#include "loss/loss.h"
#include "loss/terms.h"

namespace moltide {

double mse(const Tensor& pred, const Tensor& target, const float* weight, double scale,
           const Tensor& dpred) {
  return loss::sum_terms("mse", pred, target, weight, scale, dpred,
                         [](int64_t, int64_t, double x, double y, double, double& gradient) {
                           const double d = x - y;
                           gradient = 2.0 * d;
                           return d * d;
                         });
}

double huber(const Tensor& pred, const Tensor& target, const float* weight, double delta,
             double scale, const Tensor& dpred) {
  MOLTIDE_CHECK(std::isfinite(delta) && delta > 0.0, "huber: delta is ", delta,
                ", allowed: finite, above 0");
  return loss::sum_terms("huber", pred, target, weight, scale, dpred,
                         [delta](int64_t, int64_t, double x, double y, double, double& gradient) {
                           const double d = x - y;
                           if (std::fabs(d) > delta) {
                             gradient = d > 0.0 ? delta : -delta;
                             return delta * (std::fabs(d) - 0.5 * delta);
                           }
                           gradient = d;
                           return 0.5 * d * d;
                         });
}

double bce(const Tensor& logits, const Tensor& target, const float* weight, double scale,
           const Tensor& dlogits) {
  return loss::sum_terms(
      "bce", logits, target, weight, scale, dlogits,
      [](int64_t row, int64_t column, double x, double y, double, double& gradient) {
        MOLTIDE_CHECK(y >= 0.0 && y <= 1.0, "bce: target of row ", row, ", column ", column, " is ",
                      y, ", allowed: 0 to 1");
        // exp of a non-positive number alone: neither side overflows.
        const double e = std::exp(-std::fabs(x));
        gradient = (x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e)) - y;
        return (x > 0.0 ? x : 0.0) - x * y + std::log1p(e);
      });
}

}  // namespace moltide
