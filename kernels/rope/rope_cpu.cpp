#include "device/rows.h"
#include "rope/rope_params.h"

namespace moltide::MOLTIDE_ISA {

// One vector of cos and sin applied to N heads. All loads come before the stores: after a store of
// part of a vector the processor holds back loads from the rest of its 64 bytes.
template <int N, class T, class HowMuch>
MOLTIDE_INLINE void rotate_heads(T* low, int64_t half, vf c, vf s, HowMuch n) {
  vf a[N], b[N];
  for (int h = 0; h < N; ++h) {
    a[h] = load(low + 2 * h * half, n);
    b[h] = load(low + (2 * h + 1) * half, n);
  }
  for (int h = 0; h < N; ++h) {
    store(low + 2 * h * half, fma(a[h], c, -(b[h] * s)), n);
    store(low + (2 * h + 1) * half, fma(b[h], c, a[h] * s), n);
  }
}

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
      int64_t h = 0;
      for (; h + 4 <= p.heads; h += 4) rotate_heads<4>(row + 2 * h * p.half + i, p.half, c, s, n);
      for (; h < p.heads; ++h) rotate_heads<1>(row + 2 * h * p.half + i, p.half, c, s, n);
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
