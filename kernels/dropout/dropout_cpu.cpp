#include "device/philox_simd.h"
#include "device/rows.h"
#include "dropout/dropout_params.h"

namespace moltide::MOLTIDE_ISA {

template <class T>
static void drop(const DropoutRows& p, int64_t begin, int64_t end) {
  const vf threshold = set1(p.p);
  const vf scale = set1(1.0f / (1.0f - p.p));
  const int64_t counters = (p.cols + 3) / 4;  // of a row
  for (int64_t t = begin; t < end; ++t) {
    const T* x = static_cast<const T*>(p.x) + t * p.x_ld;
    T* y = static_cast<T*>(p.y) + t * p.y_ld;
    for (int64_t c = 0; c < p.cols; c += 4 * W) {
      vf uniform[4];
      philox_uniforms(p.seed, static_cast<uint64_t>(t * counters + c / 4), p.stream, uniform);
      const int64_t rest = p.cols - c < 4 * W ? p.cols - c : 4 * W;
      for_columns(rest, [&](int64_t i, auto n) {
        const vf kept = load(x + c + i, n) * scale;
        store(y + c + i, select(uniform[i / W] >= threshold, kept, vf{}), n);
      });
    }
  }
}

void dropout_rows(const DropoutRows& p, int64_t begin, int64_t end) {
  if (p.type == DType::f32)
    drop<float>(p, begin, end);
  else
    drop<bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
