// The forward of one tile of keys and one block of queries: with the row's shift known
// (tile_exponentials), or the online softmax (tile_scores, tile_softmax).
#pragma once
#include "attention/dropout_cpu.h"
#include "attention/pack_cpu.h"

namespace moltide::MOLTIDE_ISA {

// What a block of queries carries from key tile to key tile.
struct ForwardState {
  int64_t first_row, rows;  // of the sequence
  int vectors;
  float* qt;     // (D, kLanes), times scale * log2(e): scores are exponents of 2
  float* ot;     // (D, kLanes), not yet divided by sum
  float* shift;  // (kLanes), what exponents are less: of the online softmax the maximum so far
  float* sum;    // (kLanes)
};

// p = 2^(K Qt - shift), added to the sums. The keys of a register tile are added up before they
// join the sum: a fraction of the roundings at its size.
static void tile_exponentials(const ForwardState& state, const float* keys, int64_t n, int64_t d,
                              float* p) {
  const auto take = [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V]) MOLTIDE_INLINED {
    const bool whole = row + R <= n;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const vf shift = load(state.shift + (first + v) * W);
      vf sum = {}, pair = {};
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const vf e = exp2_bounded(c[i][v] - shift);
        store(p + (row + i) * kLanes + (first + v) * W, e);
        const vf term = i + 1 < R || whole ? e : vf{};
        i % 2 ? sum += pair + term : pair = term;
      }
      float* total = state.sum + (first + v) * W;
      store(total, load(total) + sum);
    }
  };
  product<Left::rows>(even(n), state.vectors, d, keys, d, state.qt, kLanes, take);
}

// s = K Qt and its maximum over the tile's keys.
static void tile_scores(const ForwardState& state, const float* keys, int64_t n, int64_t d,
                        float* s, vf* tile_max) {
  for (int v = 0; v < state.vectors; ++v) tile_max[v] = set1(-__builtin_inff());
  const auto keep = [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V]) MOLTIDE_INLINED {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      vf m = c[0][v];
#pragma GCC unroll 8
      for (int i = 1; i < R; ++i) m = vmax(c[i][v], m);
      tile_max[first + v] = vmax(m, tile_max[first + v]);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) store(s + (row + i) * kLanes + (first + v) * W, c[i][v]);
    }
  };
  product<Left::rows>(even(n), state.vectors, d, keys, d, state.qt, kLanes, keep);
}

// s = 2^(s - new maximum); the state's shift and sum move on; rescale = what older sums and
// outputs are now multiplied by. Four keys are added up before they join the sum: a quarter of the
// roundings at its size.
static void tile_softmax(const ForwardState& state, int64_t n, float* s, const vf* tile_max,
                         vf* rescale) {
  for_vector_groups(state.vectors, [&]<int V>(int first) MOLTIDE_INLINED {
    vf m[V], sum[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* top = state.shift + (first + v) * W;
      m[v] = vmax(tile_max[first + v], load(top));
      rescale[first + v] = exp2_nonpositive(load(top) - m[v]);
      store(top, m[v]);
      sum[v] = vf{};
    }
    const auto exponentiate = [&](int64_t k, int v) MOLTIDE_INLINED {
      float* at = s + k * kLanes + (first + v) * W;
      const vf p = exp2_nonpositive(load(at) - m[v]);
      store(at, p);
      return p;
    };
    int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const vf p0 = exponentiate(k, v), p1 = exponentiate(k + 1, v);
        const vf p2 = exponentiate(k + 2, v), p3 = exponentiate(k + 3, v);
        sum[v] += (p0 + p1) + (p2 + p3);
      }
    }
    for (; k < n; ++k) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[v] += exponentiate(k, v);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* total = state.sum + (first + v) * W;
      store(total, fma(load(total), rescale[first + v], sum[v]));
    }
  });
}

// p = 0 where dropped; the sum of the row is that of all.
static void tile_drop(const AttentionArgs& a, int64_t first_draw, int64_t first_key, int64_t n,
                      int vectors, float* p) {
  for_kept(a, first_draw, first_key, n, vectors, [&](int64_t key, int v, vi kept) {
    float* at = p + key * kLanes + v * W;
    store(at, select(kept, load(at), vf{}));
  });
}

// Ot = Ot * rescale + V^T P: the tile's own sum first, so that rounding grows with the number of
// tiles, not of keys.
static void tile_output(const ForwardState& state, const float* values, int64_t n, int64_t d,
                        const float* p, const vf* rescale) {
  product<Left::columns>(d, state.vectors, n, values, d, p, kLanes,
                         each_element([&](int64_t row, int v, vf sum) MOLTIDE_INLINED {
                           float* out = state.ot + row * kLanes + v * W;
                           store(out, fma(load(out), rescale[v], sum));
                         }));
}

}  // namespace moltide::MOLTIDE_ISA
