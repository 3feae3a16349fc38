// What the terms weigh.
#include "loss/loss.h"

#include <cmath>

#include "core/check.h"
#include "loss/terms.h"

namespace moltide {

int64_t target_count(const Tensor& target) {
  int64_t count = 0;
  for (int64_t i = 0; i < target.rows; ++i)
    for (int64_t c = 0; c < target.cols; ++c)
      count += !std::isnan(loss::target_at("target_count", target, i, c));
  return count;
}

double loss_weight(const Tensor& target, const float* weight) {
  double total = 0.0;
  for (int64_t i = 0; i < target.rows; ++i) {
    const double w = loss::row_weight("loss_weight", weight, i);
    for (int64_t c = 0; c < target.cols; ++c)
      if (!std::isnan(loss::target_at("loss_weight", target, i, c))) total += w;
  }
  return total;
}

double loss_weight(const int32_t* label, int64_t n, const float* weight) {
  double total = 0.0;
  for (int64_t i = 0; i < n; ++i)
    if (label[i] >= 0) total += loss::row_weight("loss_weight", weight, i);
  return total;
}

}  // namespace moltide
