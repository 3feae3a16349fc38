#include "norm_clip/norm_clip.h"

#include <cmath>
#include <vector>

#include "core/check.h"
#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, sum_squares_chunk, const float* g, int64_t n, double* sum)

namespace {
// Part of the result's definition: another size is another order of summation.
constexpr int64_t kChunk = 16384;
}  // namespace

double sum_squares(const float* g, int64_t n) {
  if (n <= 0) return 0.0;
  expect_memory("sum_squares", "g", g, n);
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  // The caller's, kept from step to step; workers write through the pointer.
  static thread_local std::vector<double> kept;
  kept.assign(static_cast<size_t>(chunks), 0.0);
  double* const partial = kept.data();
  parallel_for(chunks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kChunk;
      const int64_t count = n - first < kChunk ? n - first : kChunk;
      MOLTIDE_CPU_CALL(sum_squares_chunk, g + first, count, partial + i);
    }
  });
  double total = 0.0;
  for (const double p : kept) total += p;
  return total;
}

float clip_scale(double total, double max_norm) {
  MOLTIDE_CHECK(max_norm >= 0.0, "clip_norm: got ", max_norm, ", allowed: 0 (off) or above");
  if (max_norm == 0.0) return 1.0f;
  const double factor = max_norm / (std::sqrt(total) + 1e-6);
  return factor > 1.0 ? 1.0f : static_cast<float>(factor);
}

}  // namespace moltide
