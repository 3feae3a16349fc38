// The register tile of the vector instruction sets: MR rows by NP panels of 16 outputs. A step is
// what one 32-bit lane holds: four codes with VNNI, two codes as 16-bit integers elsewhere.
#pragma once
#include "matmul_i8/matmul_i8_blocks.h"

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE vi load_lanes(const char* p) {
  vi v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
MOLTIDE_INLINE vi broadcast_lane(const char* p) {
  int32_t bits;
  std::memcpy(&bits, p, 4);
  return vi{} + bits;
}

template <class Step, int MR, int NP>
MOLTIDE_INLINE void i8_step(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                            vi (&acc)[MR][NP * 16 / W]) {
  constexpr int V = 16 / W;
  vi bv[NP * V];
#pragma GCC unroll 16
  for (int j = 0; j < NP * V; ++j) bv[j] = load_lanes(b + (j / V) * panel_bytes + (j % V) * W * 4);
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
    const vi av = broadcast_lane(a + i * row_bytes);
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j) acc[i][j] = Step::apply(acc[i][j], av, bv[j]);
  }
}

// c (MR rows, kSumsLd apart) = start (null: 0) + a b over an even number of steps.
template <class Step, int MR, int NP>
__attribute__((noinline)) void i8_tile(const char* a, int64_t row_bytes, const char* b,
                                       int64_t panel_bytes, int64_t steps, const int32_t* start,
                                       int32_t* c) {
  constexpr int V = 16 / W;
  vi acc[MR][NP * V];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j)
      acc[i][j] = start ? load_lanes(reinterpret_cast<const char*>(start + j * W)) : vi{};
  for (int64_t s = 0; s < steps; s += 2, a += 8, b += 128) {
    i8_step<Step, MR, NP>(a, row_bytes, b, panel_bytes, acc);
    i8_step<Step, MR, NP>(a + 4, row_bytes, b + 64, panel_bytes, acc);
  }
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j) std::memcpy(c + i * kSumsLd + j * W, &acc[i][j], sizeof(vi));
}

// The ceiling's loop: sixteen independent sums.
template <class Step>
MOLTIDE_INLINE void i8_loop(int64_t n, char* sink) {
  constexpr int kSumCount = W == 16 ? 16 : 8;
  const vi a = load_lanes(sink), b = load_lanes(sink + sizeof(vi));
  vi acc[kSumCount] = {};
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kSumCount; ++j) {
      acc[j] = Step::apply(acc[j], a, b);
      __asm__ volatile("" : "+v"(acc[j]));
    }
  }
  for (int j = 1; j < kSumCount; ++j) acc[0] += acc[j];
  std::memcpy(sink, &acc[0], sizeof(vi));
}

}  // namespace moltide::MOLTIDE_ISA
