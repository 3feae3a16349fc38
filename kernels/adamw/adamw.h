// adamw: Adam with decoupled weight decay (Loshchilov & Hutter 2019), as torch.optim.AdamW
// Shapes    w g m v (n) f32
// Computes  g' = grad_scale * g;  m = m + (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g'^2
//           w = (1 - lr weight_decay) w - lr / (1 - beta1^step) * m / (sqrt(v / (1 - beta2^step)) +
//           eps)
// Writes    w =, m =, v =; g is read only
// Aliasing  none
// Needs     step >= 1 (the first step is 1), lr >= 0, 0 <= beta < 1, eps > 0, weight_decay >= 0,
//           grad_scale not NaN; else refused
// Repeat    element by element: same bits whatever n, the range and the thread count
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

namespace moltide {

void adamw(float* w, const float* g, float* m, float* v, int64_t n, float lr, float beta1,
           float beta2, float eps, float weight_decay, int64_t step, float grad_scale);

}  // namespace moltide
