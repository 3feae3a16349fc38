// What attention.cpp hands to the sources compiled per instruction set: plain data, no code.
#pragma once
#include <cstdint>

namespace moltide {

// A matrix (T, H*D), rows `ld` elements apart; f32 or bf16 as AttentionArgs::bf16 says.
struct AttentionMatrix {
  void* data;
  int64_t ld;
};

struct AttentionArgs {
  AttentionMatrix q, k, v, o;
  AttentionMatrix dout, dq, dk, dv;  // backward only
  float* lse;                        // (H, T)
  float* delta;                      // (H, T), rowsum(dout * o), backward only
  int64_t tokens, heads, head_dim;
  float scale, scale_log2e;  // scores are computed as exponents of 2
  float dropout;
  uint64_t seed, stream;
  bool bf16, coarse;
};

// What a task writes. One pass of the backward writes everything with five products per tile; one
// long sequence is split among threads as tasks over keys and tasks over queries (seven products).
enum class AttentionTask : int32_t { whole, dkv, dq };

// Part `part` of `parts` of one head of the sequence of `len` rows from `start`.
struct AttentionPiece {
  AttentionTask task;
  int64_t start, len, head, part, parts;
};

}  // namespace moltide
