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
                           return loss::mse_term(x, y, gradient);
                         });
}

double huber(const Tensor& pred, const Tensor& target, const float* weight, double delta,
             double scale, const Tensor& dpred) {
  MOLTIDE_CHECK(std::isfinite(delta) && delta > 0.0, "huber: delta is ", delta,
                ", allowed: finite, above 0");
  return loss::sum_terms("huber", pred, target, weight, scale, dpred,
                         [delta](int64_t, int64_t, double x, double y, double, double& gradient) {
                           return loss::huber_term(x, y, delta, gradient);
                         });
}

double bce(const Tensor& logits, const Tensor& target, const float* weight, double scale,
           const Tensor& dlogits) {
  return loss::sum_terms(
      "bce", logits, target, weight, scale, dlogits,
      [](int64_t row, int64_t column, double x, double y, double, double& gradient) {
        return loss::bce_term("bce", row, column, x, y, gradient);
      });
}

}  // namespace moltide
