#include "data/packer.h"

#include <algorithm>

#include "core/check.h"

namespace moltide {

void PackedBatch::clear() {
  tokens.clear();
  position.clear();
  cu_seqlens.assign(1, 0);
  pair_starts.assign(1, 0);
  coordinates.clear();
  token_ids.clear();
  pair_ids.clear();
  longest = 0;
}

void PackedBatch::append(const int32_t* sequence, int64_t length, const SequenceExtras& extras) {
  MOLTIDE_CHECK(count() + length < (int64_t{1} << 31), "a packed batch of ", count() + length,
                " tokens, allowed up to 2^31-1");
  tokens.insert(tokens.end(), sequence, sequence + length);
  for (int64_t i = 0; i < length; ++i) position.push_back(static_cast<int32_t>(i));
  cu_seqlens.push_back(static_cast<int32_t>(tokens.size()));
  pair_starts.push_back(pair_starts.back() + length * length);
  const auto add = [](auto& to, const auto* from, int64_t n) {
    if (from) to.insert(to.end(), from, from + n);
  };
  add(coordinates, extras.coordinates, 3 * length);
  add(token_ids, extras.token_ids, kTokenCategories * length);
  add(pair_ids, extras.pair_ids, kPairCategories * length * length);
  longest = std::max(longest, static_cast<int32_t>(length));
}

void PackedBatch::assign(const int32_t* new_tokens, int64_t new_count, const int32_t* offsets,
                         int64_t new_batch, int64_t vocab, const SequenceExtras& extras) {
  MOLTIDE_CHECK(new_batch >= 0, "cu_seqlens is empty; it holds 0 and the end of each sequence");
  MOLTIDE_CHECK(offsets[0] == 0, "cu_seqlens[0] = ", offsets[0], ", must be 0");
  MOLTIDE_CHECK(offsets[new_batch] == new_count, "cu_seqlens ends at ", offsets[new_batch],
                ", but there are ", new_count, " tokens");
  for (int64_t b = 0; b < new_batch; ++b)
    MOLTIDE_CHECK(offsets[b] <= offsets[b + 1] && offsets[b + 1] <= new_count, "cu_seqlens[", b + 1,
                  "] = ", offsets[b + 1], " after ", offsets[b], "; it must ascend to ", new_count);
  for (int64_t t = 0; t < new_count; ++t)
    MOLTIDE_CHECK(new_tokens[t] >= 0 && new_tokens[t] < vocab, "token ", new_tokens[t],
                  " at packed position ", t, ", allowed 0 .. ", vocab - 1);
  clear();
  for (int64_t b = 0; b < new_batch; ++b)
    append(new_tokens + offsets[b], offsets[b + 1] - offsets[b],
           extras.from(offsets[b], pair_starts.back()));
}

void micro_batches(const int64_t* order, int64_t n, const int64_t* offsets, int64_t max_tokens,
                   std::vector<int64_t>& ends) {
  ends.clear();
  int64_t used = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t length = offsets[order[i] + 1] - offsets[order[i]];
    if (i > 0 && used + length > max_tokens) {
      ends.push_back(i);
      used = 0;
    }
    used += length;
  }
  if (n > 0) ends.push_back(n);
}

}  // namespace moltide
