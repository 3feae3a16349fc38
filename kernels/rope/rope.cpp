#include "rope/rope.h"

#include <cmath>
#include <vector>

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "rope/rope_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, rope_rows, const RopeRows& p, int64_t begin, int64_t end)

namespace {

void check_head_dim(const char* op, int64_t head_dim) {
  MOLTIDE_CHECK(head_dim > 0 && head_dim % 2 == 0, op, ": head dimension is ", head_dim,
                ", allowed: even and above 0");
}

}  // namespace

void rope_table(int64_t max_len, int64_t head_dim, double base, float* cos, float* sin) {
  check_head_dim("rope_table", head_dim);
  MOLTIDE_CHECK(base > 0.0, "rope_table: base is ", base, ", allowed: above 0");
  std::vector<float> inv_freq(static_cast<size_t>(head_dim / 2));
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    inv_freq[i] = 1.0f / static_cast<float>(std::pow(base, exponent));
  }
  rope_table(max_len, head_dim, inv_freq.data(), cos, sin);
}

void rope_table(int64_t max_len, int64_t head_dim, const float* inv_freq, float* cos, float* sin) {
  check_head_dim("rope_table", head_dim);
  const int64_t half = head_dim / 2;
  parallel_for(half, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t position = 0; position < max_len; ++position) {
        const float angle = static_cast<float>(position) * inv_freq[i];
        cos[position * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
        sin[position * half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
      }
    }
  });
}

void rope(const Tensor& x, const int32_t* position, int64_t heads, int64_t head_dim,
          const float* cos, const float* sin, bool inverse) {
  check_head_dim("rope", head_dim);
  expect_shape("rope", "x", x, x.rows, heads * head_dim);
  const RopeRows p{x.data, x.ld, x.dtype, position, heads, head_dim / 2, cos, sin, inverse};
  parallel_for(x.rows, row_grain(x.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(rope_rows, p, begin, end); });
}

}  // namespace moltide
