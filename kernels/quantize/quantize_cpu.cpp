#include "device/quantize_row.h"
#include "quantize/quantize_params.h"

namespace moltide::MOLTIDE_ISA {

template <class T>
static void rows(const QuantizeRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* x = static_cast<const T*>(p.x) + t * p.x_ld;
    p.scale[t] = write_codes(x, p.cols, row_amax_bits(x, p.cols), p.q + t * p.q_ld, p.q_ld);
  }
}

void quantize_rows(const QuantizeRows& p, int64_t begin, int64_t end) {
  if (p.type == DType::f32)
    rows<float>(p, begin, end);
  else
    rows<bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
