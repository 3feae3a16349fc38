#include "device/rows.h"
#include "rope/rope_params.h"

namespace moltide::MOLTIDE_ISA {

template <class T>
static void rotate(const RopeRows& p, int64_t begin, int64_t end) {
  const vf sign = set1(p.inverse ? -1.0f : 1.0f);
  for (int64_t t = begin; t < end; ++t) {
    const float* cos = p.cos + p.position[t] * p.half;
    const float* sin = p.sin + p.position[t] * p.half;
    T* row = static_cast<T*>(p.x) + t * p.x_ld;
    // Columns outside, heads inside: cos and sin are loaded once for all heads.
    for_columns(p.half, [&](int64_t i, auto n) {
      const vf c = load(cos + i, n);
      const vf s = load(sin + i, n) * sign;
      for (int64_t h = 0; h < p.heads; ++h) {
        T* low = row + 2 * h * p.half + i;
        T* high = low + p.half;
        const vf a = load(low, n);
        const vf b = load(high, n);
        store(low, fma(a, c, -(b * s)), n);
        store(high, fma(b, c, a * s), n);
      }
    });
  }
}

void rope_rows(const RopeRows& p, int64_t begin, int64_t end) {
  if (p.x_type == DType::f32)
    rotate<float>(p, begin, end);
  else
    rotate<bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
