#include "device/rows.h"
#include "gate/gate_params.h"

namespace moltide::MOLTIDE_ISA {
namespace {

// 1 / (1 + e^-g); NaN stays.
MOLTIDE_INLINE vf logistic(vf g) {
  return set1(1.0f) / (set1(1.0f) + vexp(-g));
}

template <class Y>
void fwd(const GateRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float *x = p.x + t * p.x_ld, *g = p.g + t * p.g_ld;
    Y* y = static_cast<Y*>(p.y) + t * p.y_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      vf f = load(g + i, n);
      if (p.sigmoid) f = logistic(f);
      store(y + i, set1(p.scale) * load(x + i, n) * f, n);
    });
  }
}

template <class DX, class DG>
void bwd(const GateRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const float *x = p.x + t * p.x_ld, *g = p.g + t * p.g_ld, *dy = p.dy + t * p.dy_ld;
    DX* dx = static_cast<DX*>(p.y) + t * p.y_ld;
    DG* dg = static_cast<DG*>(p.dg) + t * p.dg_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf d = set1(p.scale) * load(dy + i, n), value = load(x + i, n);
      vf f = load(g + i, n), slope = set1(1.0f);
      if (p.sigmoid) {
        f = logistic(f);
        slope = f * (set1(1.0f) - f);
      }
      store(dx + i, d * f, n);
      store(dg + i, d * value * slope, n);
    });
  }
}

}  // namespace

void gate_fwd_rows(const GateRows& p, int64_t begin, int64_t end) {
  p.y_type == DType::f32 ? fwd<float>(p, begin, end) : fwd<bf16>(p, begin, end);
}

void gate_bwd_rows(const GateRows& p, int64_t begin, int64_t end) {
  if (p.y_type == DType::f32)
    p.dg_type == DType::f32 ? bwd<float, float>(p, begin, end) : bwd<float, bf16>(p, begin, end);
  else
    p.dg_type == DType::f32 ? bwd<bf16, float>(p, begin, end) : bwd<bf16, bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
