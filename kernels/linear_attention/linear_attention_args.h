// What linear_attention.cpp hands to the sources compiled per instruction set: plain data, no code.
#pragma once
#include <cstdint>

namespace moltide {

// A matrix (T, H*D), rows `ld` elements apart; f32 or bf16 as LinearAttentionArgs::bf16 says.
struct LinearAttentionMatrix {
  void* data;
  int64_t ld;
};

struct LinearAttentionArgs {
  LinearAttentionMatrix q, k, v, o;
  LinearAttentionMatrix dout, dq, dk, dv;  // backward only
  int64_t head_dim, features;
  float eps;
  bool bf16;
  const float* w;             // (D, M)
  float *w_panel, *wt_panel;  // w and its transpose with whole vectors as rows; the latter backward
};

// One head of the sequence of `len` rows from `start`.
struct LinearAttentionHead {
  int64_t start, len, head;
  bool next;  // the same thread goes on with the head beside it
};

// Rows of a panel or tile are whole vectors of any instruction set at this many floats.
constexpr int64_t kWidestVector = 16;

}  // namespace moltide
