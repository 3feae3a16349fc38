#include "triangle_product/triangle_product.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, triangle_product_fwd_plane, const float* a, const float* b, int64_t length,
               float* x)
MOLTIDE_CPU_OP(void, triangle_product_bwd_plane, const float* dx, const float* a, const float* b,
               int64_t length, float* da, float* db)

namespace {

int64_t check(const char* op, int64_t channels, int64_t length) {
  MOLTIDE_CHECK(channels >= 0 && length >= 0 && length <= (int64_t{1} << 20), op, ": got ",
                channels, " channels and length ", length, ", allowed 0 or more and 0 to 2^20");
  return length * length;
}

}  // namespace

void triangle_product_fwd(const float* a, const float* b, int64_t channels, int64_t length,
                          float* x) {
  constexpr const char* op = "triangle_product_fwd";
  const int64_t plane = check(op, channels, length);
  expect_memory(op, "a", a, channels * plane);
  expect_memory(op, "b", b, channels * plane);
  expect_memory(op, "x", x, channels * plane);
  if (plane == 0) return;
  parallel_for(channels, row_grain(plane * length / 8), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      MOLTIDE_CPU_CALL(triangle_product_fwd_plane, a + c * plane, b + c * plane, length,
                       x + c * plane);
  });
}

void triangle_product_bwd(const float* dx, const float* a, const float* b, int64_t channels,
                          int64_t length, float* da, float* db) {
  constexpr const char* op = "triangle_product_bwd";
  const int64_t plane = check(op, channels, length);
  expect_memory(op, "dx", dx, channels * plane);
  expect_memory(op, "a", a, channels * plane);
  expect_memory(op, "b", b, channels * plane);
  expect_memory(op, "da", da, channels * plane);
  expect_memory(op, "db", db, channels * plane);
  if (plane == 0) return;
  parallel_for(channels, row_grain(plane * length / 8), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      MOLTIDE_CPU_CALL(triangle_product_bwd_plane, dx + c * plane, a + c * plane, b + c * plane,
                       length, da + c * plane, db + c * plane);
  });
}

}  // namespace moltide
