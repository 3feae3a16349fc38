// What the CPU kernels of attention_pair_bias read and write; plain data, shared with the per-ISA
// objects.
#pragma once
#include <cstdint>

namespace moltide {

struct PairBiasMatrix {
  void* data;
  int64_t ld;
};

// Elements of q .. dv are bf16 or float; planes and statistics are float.
struct PairBiasArgs {
  PairBiasMatrix q, k, v, o, dout, dq, dk, dv;
  const float* bias;
  float* scores;      // the backward reads them
  float* statistics;  // (2, H, T), null: not wanted
  float* dscores;
  int64_t tokens, heads, head_dim;
  float scale, dropout;
  uint64_t seed, stream;
  bool bf16, accumulate;
};

// Heads [begin, end) of the sequence of `len` tokens from token `start`, whose planes begin at
// element heads * pairs.
struct PairBiasTask {
  int64_t start, len, pairs, begin, end;
};

}  // namespace moltide
