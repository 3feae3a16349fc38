#include <cmath>

#include "device/simd.h"
#include "loss/cross_entropy_params.h"

namespace moltide::MOLTIDE_ISA {

// The last n < W logits of a row; the lanes beyond are -inf and so have probability 0.
MOLTIDE_INLINE vf load_tail(const float* x, int64_t n) {
  float buffer[W];
  store(buffer, set1(-__builtin_inff()));
  std::memcpy(buffer, x, static_cast<size_t>(n) * sizeof(float));
  return load(buffer);
}

template <class T>
MOLTIDE_INLINE void zero_row(T* d, int64_t n) {
  std::memset(static_cast<void*>(d), 0, static_cast<size_t>(n) * sizeof(T));
}

// d = factor * (softmax(x) - onehot(label)); d may be x.
template <class T>
MOLTIDE_INLINE void gradient_row(const float* x, T* d, int64_t n, int32_t label, float highest,
                                 float sum, float factor) {
  const vf shift = set1(highest), scale = set1(factor / sum);
  float at_label[W];
  const vf p = vexp(set1(x[label]) - shift) / set1(sum);
  store(at_label, (p - set1(1.0f)) * set1(factor));
  int64_t i = 0;
  for (; i + W <= n; i += W) store(d + i, vexp(load(x + i) - shift) * scale);
  if (i < n) store_n(d + i, vexp(load_tail(x + i, n - i) - shift) * scale, n - i);
  store_n(d + label, load(at_label), 1);
}

void cross_entropy_rows(const CrossEntropyRows& rows, int64_t begin, int64_t end) {
  const int64_t n = rows.classes;
  for (int64_t r = begin; r < end; ++r) {
    const float* x = rows.logits + r * rows.ld;
    const int32_t label = rows.label[r];
    const double weight = label < 0 ? 0.0 : rows.weight ? rows.weight[r] : 1.0;
    char* d = static_cast<char*>(rows.dlogits);
    if (d) d += r * rows.dlogits_ld * dtype_bytes(rows.dlogits_dtype);
    if (weight == 0.0) {
      rows.row_loss[r] = 0.0;
      if (d && rows.dlogits_dtype == DType::f32) zero_row(reinterpret_cast<float*>(d), n);
      if (d && rows.dlogits_dtype == DType::bf16) zero_row(reinterpret_cast<bf16*>(d), n);
      continue;
    }
    vf top = set1(-__builtin_inff());
    int64_t i = 0;
    for (; i + W <= n; i += W) top = vmax(load(x + i), top);
    if (i < n) top = vmax(load_tail(x + i, n - i), top);
    const float highest = reduce_max(top);
    vf sums{};
    for (i = 0; i + W <= n; i += W) sums += vexp(load(x + i) - set1(highest));
    if (i < n) sums += vexp(load_tail(x + i, n - i) - set1(highest));
    const float sum = reduce_add(sums);
    rows.row_loss[r] =
        weight * (std::log(static_cast<double>(sum)) + (static_cast<double>(highest) - x[label]));
    const float factor = static_cast<float>(weight * rows.scale);
    if (d && rows.dlogits_dtype == DType::f32)
      gradient_row(x, reinterpret_cast<float*>(d), n, label, highest, sum, factor);
    if (d && rows.dlogits_dtype == DType::bf16)
      gradient_row(x, reinterpret_cast<bf16*>(d), n, label, highest, sum, factor);
  }
}

}  // namespace moltide::MOLTIDE_ISA
