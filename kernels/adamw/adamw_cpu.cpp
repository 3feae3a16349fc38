#include "adamw/adamw_params.h"
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE void update(const AdamwFactors& f, vf g, vf& w, vf& m, vf& v) {
  g = g * set1(f.grad_scale);
  m = fma(set1(f.one_minus_b1), g - m, m);
  v = fma(set1(f.one_minus_b2) * g, g, set1(f.beta2) * v);
  const vf denominator = fma(vsqrt(v), set1(f.inv_sqrt_bc2), set1(f.eps));
  w = fma(set1(-f.step_size), m / denominator, set1(f.decay) * w);
}

void adamw_range(float* w, const float* g, float* m, float* v, int64_t n,
                 const AdamwFactors& factors) {
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    vf wi = load(w + i), mi = load(m + i), v2 = load(v + i);
    update(factors, load(g + i), wi, mi, v2);
    store(w + i, wi);
    store(m + i, mi);
    store(v + i, v2);
  }
  if (const int64_t rest = n - i; rest > 0) {
    vf wi = load_n(w + i, rest), mi = load_n(m + i, rest), v2 = load_n(v + i, rest);
    update(factors, load_n(g + i, rest), wi, mi, v2);
    store_n(w + i, wi, rest);
    store_n(m + i, mi, rest);
    store_n(v + i, v2, rest);
  }
}

}  // namespace moltide::MOLTIDE_ISA
