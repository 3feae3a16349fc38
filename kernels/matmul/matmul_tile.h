// The register tile: MR rows by NP panels of 16 outputs, one multiply-add instruction per step.
// A step is one k in float32, one pair of k in bf16: in both an element of A is 32 bits, and a
// panel of B holds 16 x 32 bits a step. Everything lives in the instruction set's namespace.
#pragma once
#include "device/integers.h"
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE vf broadcast32(const char* p) {
  uint32_t bits;
  std::memcpy(&bits, p, 4);
  return (vf)(vu{} + bits);
}
MOLTIDE_INLINE vf load_vector(const char* p) {
  vf v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// Memory that is wanted soon: a cache line is asked for every four steps, `step` bytes further on.
struct Stream {
  const char* at;
  int64_t step;
};
// The first `lines` cache lines of each of some rows, about to be written: one is asked for every
// four steps. Stores that miss the caches leave one after another, and a full queue of them stops
// everything.
struct RowStream {
  const char* at;
  int64_t ld_bytes, rows, lines;
  int64_t row = 0;
};
// What comes after a tile's b and a, and its results.
struct Ahead {
  Stream b, a;
  RowStream c;
};
MOLTIDE_INLINE void ask(RowStream& s) {
  __builtin_prefetch(s.at, 1, 3);
  s.at += s.ld_bytes;
  if (++s.row < s.rows) return;
  s.at += 64 - s.rows * s.ld_bytes;
  s.row = 0;
  if (--s.lines <= 0) s.ld_bytes = 0;
}
template <int kLocality>
MOLTIDE_INLINE void ask(Stream& s) {
  __builtin_prefetch(s.at, 0, kLocality);
  s.at += s.step;
}

template <class Step, int MR, int NP, bool kPackedA>
MOLTIDE_INLINE void tile_step(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                              vf (&acc)[MR][NP * 16 / W]) {
  constexpr int V = 16 / W;
  vf bv[NP * V];
#pragma GCC unroll 16
  for (int j = 0; j < NP * V; ++j) bv[j] = load_vector(b + (j / V) * panel_bytes + (j % V) * W * 4);
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i) {
    const vf av = broadcast32(kPackedA ? a + 4 * i : a + i * row_bytes);
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j) acc[i][j] = Step::apply(acc[i][j], av, bv[j]);
  }
}

// Four steps one after another, each by Instruction::apply.
template <class Instruction>
struct StepByStep : Instruction {
  template <int MR, int NP, bool kPackedA>
  MOLTIDE_INLINE void four(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                           vf (&acc)[MR][NP * 16 / W]) {
    constexpr int64_t kStepA = kPackedA ? 4 * MR : 4;
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u)
      tile_step<Instruction, MR, NP, kPackedA>(a + u * kStepA, row_bytes, b + u * 64, panel_bytes,
                                               acc);
  }
};

struct FusedMultiplyAdd {
  MOLTIDE_INLINE vf apply(vf acc, vf a, vf b) { return fma(a, b, acc); }
};
using FloatStep = StepByStep<FusedMultiplyAdd>;

// c (MR x 16 NP, ldc) = or += a b over `steps`. The element of A's row i at step s lies at
// a + i * row_bytes + 4 s, or with kPackedA at a + 4 (s MR + i). A value is one chain from zero in
// order of s, then added to c: which steps a call covers decides the bits, MR and NP do not.
template <class Step, int MR, int NP, bool kPackedA>
__attribute__((noinline)) void tile(const char* a, int64_t row_bytes, const char* b,
                                    int64_t panel_bytes, int64_t steps, float* c, int64_t ldc,
                                    bool first, Ahead ahead) {
  constexpr int V = 16 / W;
  constexpr int64_t kStepA = kPackedA ? 4 * MR : 4;
  // Four steps of a small tile have no time for more questions, nor the L1 cache room for answers.
  constexpr bool kSmall = MR * NP * V < 24;
  vf acc[MR][NP * V];
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j) acc[i][j] = vf{};
  int64_t s = steps;
  for (; s >= 4; s -= 4) {
    ask<kSmall ? 2 : 3>(ahead.b);
    if constexpr (!kSmall) {
      ask<3>(ahead.a);
      ask(ahead.c);
    }
    Step::template four<MR, NP, kPackedA>(a, row_bytes, b, panel_bytes, acc);
    a += 4 * kStepA;
    b += 256;
  }
  for (; s > 0; --s, a += kStepA, b += 64)
    tile_step<Step, MR, NP, kPackedA>(a, row_bytes, b, panel_bytes, acc);
#pragma GCC unroll 32
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < NP * V; ++j) {
      float* to = c + i * ldc + j * W;
      store(to, first ? acc[i][j] : load(to) + acc[i][j]);
    }
}

}  // namespace moltide::MOLTIDE_ISA
