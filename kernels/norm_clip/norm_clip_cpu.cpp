#include <cstdint>
#include <cstring>

#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// Sixteen lanes on every instruction set: squares of floats are exact in double, so only the order
// of the sums counts, and that is the same everywhere.
constexpr int kLanes = 16;
typedef float vf16 __attribute__((vector_size(kLanes * 4)));
typedef double vd16 __attribute__((vector_size(kLanes * 8)));

void sum_squares_chunk(const float* g, int64_t n, double* sum) {
  vd16 total = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    vf16 x;
    std::memcpy(&x, g + i, sizeof(x));
    const vd16 d = __builtin_convertvector(x, vd16);
    total += d * d;
  }
  vf16 tail = {};
  std::memcpy(&tail, g + i, static_cast<size_t>(n - i) * sizeof(float));
  const vd16 d = __builtin_convertvector(tail, vd16);
  total += d * d;
  double lanes[kLanes];
  std::memcpy(lanes, &total, sizeof(lanes));
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) lanes[j] += lanes[j + step];
  *sum = lanes[0];
}

}  // namespace moltide::MOLTIDE_ISA
