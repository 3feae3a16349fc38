#include <cstdint>
#include <cstring>

#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// Sixteen lanes on every instruction set, held in as many vectors as that takes. Squares of floats
// are exact in double, so only the order of the sums counts, and that is the same everywhere.
constexpr int kLanes = 16;
constexpr int kWidth = W / 2;
constexpr int kVectors = kLanes / kWidth;
typedef float vfh __attribute__((vector_size(kWidth * 4)));
typedef double vd __attribute__((vector_size(kWidth * 8)));

MOLTIDE_INLINE void add_squares(const float* g, vd (&sums)[kVectors]) {
  for (int j = 0; j < kVectors; ++j) {
    vfh x;
    std::memcpy(&x, g + j * kWidth, sizeof(x));
    const vd d = __builtin_convertvector(x, vd);
    sums[j] += d * d;
  }
}

void sum_squares_chunk(const float* g, int64_t n, double* sum) {
  vd sums[kVectors] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) add_squares(g + i, sums);
  float tail[kLanes] = {};
  std::memcpy(tail, g + i, static_cast<size_t>(n - i) * sizeof(float));
  add_squares(tail, sums);
  double lanes[kLanes];
  std::memcpy(lanes, sums, sizeof(lanes));
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int j = 0; j < step; ++j) lanes[j] += lanes[j + step];
  *sum = lanes[0];
}

}  // namespace moltide::MOLTIDE_ISA
