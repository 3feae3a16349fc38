// Packed batches: residues of all sequences end to end, no padding.
#pragma once
#include <cstdint>
#include <vector>

namespace moltide {

struct BatchShape {
  int64_t tokens = 0, batch = 0;
  int64_t pairs = 0;    // sum of the sequences' squared lengths
  int64_t longest = 0;  // tokens of the longest sequence
};

// Categories that describe a token, and a pair of tokens, besides the tokens' ids; -1: none.
constexpr int64_t kTokenCategories = 10, kPairCategories = 5;

// What is known of a sequence besides its tokens; null where it is not.
struct SequenceExtras {
  const float* coordinates = nullptr;  // (L, 3)
  const int16_t* token_ids = nullptr;  // (L, kTokenCategories)
  const int16_t* pair_ids = nullptr;   // (L * L, kPairCategories), pair (i, j) at j * L + i

  // Of a sequence that begins at this token and this pair, out of those of many.
  SequenceExtras from(int64_t token, int64_t pair) const {
    SequenceExtras e;
    if (coordinates) e.coordinates = coordinates + 3 * token;
    if (token_ids) e.token_ids = token_ids + kTokenCategories * token;
    if (pair_ids) e.pair_ids = pair_ids + kPairCategories * pair;
    return e;
  }
};

struct PackedBatch {
  std::vector<int32_t> tokens;       // (T)
  std::vector<int32_t> cu_seqlens;   // (B + 1), starts with 0
  std::vector<int32_t> position;     // (T), place within its sequence
  std::vector<int64_t> pair_starts;  // (B + 1), pairs of tokens (L^2) of the sequences before
  // Each empty where it is not known.
  std::vector<float> coordinates;  // (T, 3) where tokens are in space
  std::vector<int16_t> token_ids, pair_ids;
  int32_t longest = 0;

  int64_t count() const { return static_cast<int64_t>(tokens.size()); }
  int64_t batch() const { return static_cast<int64_t>(cu_seqlens.size()) - 1; }
  BatchShape shape() const { return {count(), batch(), pair_starts.back(), longest}; }

  void clear();
  void append(const int32_t* sequence, int64_t length, const SequenceExtras& extras = {});
  // Throws std::invalid_argument for offsets that do not ascend from 0 to T, or a token outside [0,
  // vocab).
  void assign(const int32_t* tokens, int64_t count, const int32_t* cu_seqlens, int64_t batch,
              int64_t vocab, const SequenceExtras& extras = {});
};

// Cuts `order` into runs whose packed tokens stay within max_tokens; a longer sequence runs alone.
// ends = the ends of the runs.
void micro_batches(const int64_t* order, int64_t n, const int64_t* offsets, int64_t max_tokens,
                   std::vector<int64_t>& ends);

}  // namespace moltide
