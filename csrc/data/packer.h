// Packed batches: residues of all sequences end to end, no padding.
#pragma once
#include <cstdint>
#include <vector>

namespace moltide {

struct BatchShape {
  int64_t tokens = 0, batch = 0;
  int64_t pairs = 0;  // sum of the sequences' squared lengths
};

struct PackedBatch {
  std::vector<int32_t> tokens;       // (T)
  std::vector<int32_t> cu_seqlens;   // (B + 1), starts with 0
  std::vector<int32_t> position;     // (T), place within its sequence
  std::vector<int64_t> pair_starts;  // (B + 1), pairs of tokens (L^2) of the sequences before
  std::vector<float> coordinates;    // (T, 3) where tokens have a place in space, else empty
  int32_t longest = 0;

  int64_t count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t batch() const { return static_cast<int64_t>(cu_seqlens.size()) - 1; }
  BatchShape shape() const { return {count(), batch(), pair_starts.back()}; }

  void clear();
  // where: (length, 3), or null.
  void append(const int32_t* sequence, int64_t length, const float* where = nullptr);
  // Throws std::invalid_argument for offsets that do not ascend from 0 to T, or a token outside [0,
  // vocab).
  void assign(const int32_t* tokens, int64_t count, const int32_t* cu_seqlens, int64_t batch,
              int64_t vocab, const float* where = nullptr);
};

// Cuts `order` into runs whose packed tokens stay within max_tokens; a longer sequence runs alone.
// ends = the ends of the runs.
void micro_batches(const int64_t* order, int64_t n, const int64_t* offsets, int64_t max_tokens,
                   std::vector<int64_t>& ends);

}  // namespace moltide
