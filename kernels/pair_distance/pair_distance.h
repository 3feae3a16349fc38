// pair_distance: of pairs of tokens, how far apart they are and which edge type they have
// Shapes    coordinates (T, 3) f32, row-major; tokens (T) int32; distances (N) f32, edges (N)
//           int32: pairs first .. first + N of all; pair (j * L + i) of a sequence of L tokens is
//           query i and key j: edge type tokens[i] * vocabulary + tokens[j]
// Writes    distances =, edges =
// Needs     coordinates finite and 0 <= tokens[t] < vocabulary, else refused with t; first >= 0 and
//           first + N at most the sum of L^2
// Repeat    differences and sums in double, rounded once: the same on every instruction set
#pragma once
#include <cstdint>

namespace moltide {

struct PairTokens {
  const float* coordinates;
  const int32_t* tokens;
  const int32_t* cu_seqlens;   // (B+1)
  const int64_t* pair_starts;  // (B+1), sums of L^2 before each sequence
  int64_t batch;
  int32_t vocabulary;  // vocabulary^2 < 2^31
};

// Once for a batch, before its pairs are asked for.
void check_pair_tokens(const PairTokens& t);

void pair_distance(const PairTokens& t, int64_t first, int64_t count, float* distances,
                   int32_t* edges);

}  // namespace moltide
