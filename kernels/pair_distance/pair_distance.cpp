#include "pair_distance/pair_distance.h"

#include <algorithm>
#include <cmath>

#include "core/expect.h"
#include "core/parallel.h"

namespace moltide {

void check_pair_tokens(const PairTokens& t) {
  constexpr const char* op = "pair_distance";
  MOLTIDE_CHECK(t.vocabulary >= 1 && int64_t{t.vocabulary} * t.vocabulary < (int64_t{1} << 31), op,
                ": got ", t.vocabulary, " kinds of tokens, allowed 1 to 46340");
  MOLTIDE_CHECK(t.pair_starts[0] == 0, op, ": pair_starts begins with ", t.pair_starts[0],
                ", expected 0");
  for (int64_t b = 0; b < t.batch; ++b) {
    const int64_t len = int64_t{t.cu_seqlens[b + 1]} - t.cu_seqlens[b];
    const int64_t pairs = t.pair_starts[b + 1] - t.pair_starts[b];
    MOLTIDE_CHECK(len >= 0 && pairs == len * len, op, ": sequence ", b, " has ", len,
                  " tokens and ", pairs, " pairs, expected their square");
  }
  const int64_t tokens = t.cu_seqlens[t.batch];
  expect_memory(op, "tokens", t.tokens, tokens);
  expect_memory(op, "coordinates", t.coordinates, 3 * tokens);
  for (int64_t i = 0; i < tokens; ++i)
    MOLTIDE_CHECK(t.tokens[i] >= 0 && t.tokens[i] < t.vocabulary, op, ": token ", i, " is ",
                  t.tokens[i], ", allowed: 0 to ", t.vocabulary - 1);
  for (int64_t i = 0; i < 3 * tokens; ++i)
    MOLTIDE_CHECK(std::isfinite(t.coordinates[i]), op, ": coordinate ", i % 3, " of token ", i / 3,
                  " is ", t.coordinates[i], ", allowed: finite numbers");
}

void pair_distance(const PairTokens& t, int64_t first, int64_t count, float* distances,
                   int32_t* edges) {
  constexpr const char* op = "pair_distance";
  const int64_t* starts = t.pair_starts;
  MOLTIDE_CHECK(first >= 0 && count >= 0 && first + count <= starts[t.batch], op, ": got pairs ",
                first, " to ", first + count, ", allowed 0 to ", starts[t.batch]);
  expect_memory(op, "distances", distances, count);
  expect_memory(op, "edges", edges, count);
  parallel_for(count, 4096, [&](int64_t begin, int64_t end) {
    int64_t b = std::upper_bound(starts, starts + t.batch + 1, first + begin) - starts - 1;
    for (int64_t n = begin; n < end;) {
      while (starts[b + 1] <= first + n) ++b;
      const int64_t token = t.cu_seqlens[b], len = t.cu_seqlens[b + 1] - token;
      const int64_t within = first + n - starts[b], j = within / len;
      const float* key = t.coordinates + 3 * (token + j);
      for (int64_t i = within % len; i < len && n < end; ++i, ++n) {
        const float* query = t.coordinates + 3 * (token + i);
        double square = 0;
        for (int axis = 0; axis < 3; ++axis) {
          const double apart = double{query[axis]} - key[axis];
          square += apart * apart;
        }
        distances[n] = static_cast<float>(std::sqrt(square));
        edges[n] = t.tokens[token + i] * t.vocabulary + t.tokens[token + j];
      }
    }
  });
}

}  // namespace moltide
