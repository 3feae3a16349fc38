#include "adamw/adamw.h"

#include <cmath>

#include "adamw/adamw_params.h"
#include "core/check.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, adamw_range, float* w, const float* g, float* m, float* v, int64_t n,
               const AdamwFactors& factors)

void adamw(float* w, const float* g, float* m, float* v, int64_t n, float lr, float beta1,
           float beta2, float eps, float weight_decay, int64_t step, float grad_scale) {
  MOLTIDE_CHECK(step >= 1, "adamw: step is ", step, ", allowed: 1 or above");
  MOLTIDE_CHECK(std::isfinite(lr) && lr >= 0.0f, "adamw: learning rate is ", lr,
                ", allowed: finite, 0 or above");
  MOLTIDE_CHECK(beta1 >= 0.0f && beta1 < 1.0f, "adamw: beta1 is ", beta1, ", allowed: [0, 1)");
  MOLTIDE_CHECK(beta2 >= 0.0f && beta2 < 1.0f, "adamw: beta2 is ", beta2, ", allowed: [0, 1)");
  MOLTIDE_CHECK(eps > 0.0f, "adamw: eps is ", eps, ", allowed: above 0");
  MOLTIDE_CHECK(weight_decay >= 0.0f, "adamw: weight decay is ", weight_decay,
                ", allowed: 0 or above");
  MOLTIDE_CHECK(!std::isnan(grad_scale), "adamw: grad_scale is NaN");
  if (n <= 0) return;
  MOLTIDE_CHECK(w && g && m && v, "adamw: null array of ", n, " elements");
  const double t = static_cast<double>(step);
  const double b1 = beta1, b2 = beta2;
  AdamwFactors f;
  f.grad_scale = grad_scale;
  f.decay = static_cast<float>(1.0 - static_cast<double>(lr) * weight_decay);
  f.one_minus_b1 = static_cast<float>(1.0 - b1);
  f.beta2 = beta2;
  f.one_minus_b2 = static_cast<float>(1.0 - b2);
  f.step_size = static_cast<float>(lr / (1.0 - std::pow(b1, t)));
  f.inv_sqrt_bc2 = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(b2, t)));
  f.eps = eps;
  // 32k elements move about 0.9 MB: enough to hide a thread's wake-up, little enough to balance.
  parallel_for(n, 32768, [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(adamw_range, w + begin, g + begin, m + begin, v + begin, end - begin, f);
  });
}

}  // namespace moltide
