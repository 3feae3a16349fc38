// What one AdamW step multiplies by: computed once in double, then fixed for every element.
#pragma once

namespace moltide {

struct AdamwFactors {
  float grad_scale;
  float decay;         // 1 - lr * weight_decay
  float one_minus_b1;  // 1 - beta1
  float beta2;
  float one_minus_b2;  // 1 - beta2
  float step_size;     // lr / (1 - beta1^step)
  float inv_sqrt_bc2;  // 1 / sqrt(1 - beta2^step)
  float eps;
};

}  // namespace moltide
