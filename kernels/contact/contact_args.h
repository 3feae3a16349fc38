// What contact.cpp hands to the source compiled per instruction set: plain data, no code.
#pragma once
#include <cstdint>

namespace moltide {

struct ContactArgs {
  const float* probs;  // (H, len, len)
  int64_t heads, len;
  int64_t skip, size;   // the first row and column that count, and how many
  const float* weight;  // (H)
  float* sums;          // (H, size): row sums of a
  float* share;         // (H, size): row sums of a + a^T over the square root of their total
  float* logits;        // (size, size)
};

}  // namespace moltide
