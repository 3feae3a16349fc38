// Forward: for a group of query blocks, all keys in chunks that are copied once; per tile of keys
// the scores, the online softmax and the product with the values.
#include <math.h>

#include "attention/dropout_cpu.h"
#include "attention/pack_cpu.h"
#include "core/parallel.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kTileKeys = 64;
constexpr int64_t kGroup = 8;              // query blocks that share a copy of a chunk of keys
constexpr int64_t kChunkFloats = 1 << 15;  // a chunk of keys and its values: 128 KiB each
constexpr float kLn2 = 0.69314718055994531f;

// What a block of queries carries from key tile to key tile.
struct State {
  float* qt;   // (D, kLanes), times scale * log2(e): scores are exponents of 2
  float* ot;   // (D, kLanes), not yet divided by sum
  float* max;  // (kLanes)
  float* sum;  // (kLanes)
};

// s = K Qt and its maximum over the tile's keys.
void tile_scores(const State& state, const float* keys, int64_t n, int64_t d, int vectors, float* s,
                 vf* tile_max) {
  for (int v = 0; v < vectors; ++v) tile_max[v] = set1(-__builtin_inff());
  product<Left::rows>((n + 1) & ~int64_t{1}, vectors, d, keys, d, state.qt, kLanes,
                      [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V])
                          __attribute__((always_inline)) {
#pragma GCC unroll 4
                            for (int v = 0; v < V; ++v) {
                              vf m = c[0][v];
#pragma GCC unroll 8
                              for (int i = 1; i < R; ++i) m = vmax(c[i][v], m);
                              tile_max[first + v] = vmax(m, tile_max[first + v]);
                            }
#pragma GCC unroll 8
                            for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
                              for (int v = 0; v < V; ++v)
                                store(s + (row + i) * kLanes + (first + v) * W, c[i][v]);
                            }
                          });
}

// s = 2^(s - new maximum); the state's maximum and sum move on; rescale = what older sums and
// outputs are now multiplied by. Four keys are added up before they join the sum: a quarter of the
// roundings at its size.
void tile_softmax(const State& state, int64_t n, int vectors, float* s, const vf* tile_max,
                  vf* rescale) {
  for_vector_groups(vectors, [&]<int V>(int first) __attribute__((always_inline)) {
    vf m[V], sum[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* top = state.max + (first + v) * W;
      m[v] = vmax(tile_max[first + v], load(top));
      rescale[first + v] = exp2_nonpositive(load(top) - m[v]);
      store(top, m[v]);
      sum[v] = vf{};
    }
    const auto exponentiate = [&](int64_t k, int v) __attribute__((always_inline)) {
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

// tile[key][lane] = 0 where dropped; nothing else changes.
void drop(const AttentionArgs& a, int64_t first_row, int64_t first_key, int64_t n, int vectors,
          float* tile) {
  for_kept(a, first_row, first_key, n, vectors, [&](int64_t key, int v, vi kept) {
    float* p = tile + key * kLanes + v * W;
    store(p, (vf)((vi)load(p) & kept));
  });
}

// Ot = Ot * rescale + V^T P: the tile's own sum first, so that rounding grows with the number of
// tiles, not of keys.
void tile_output(const State& state, const float* values, int64_t n, int64_t d, int vectors,
                 const float* p, const vf* rescale) {
  product<Left::columns>(d, vectors, n, values, d, p, kLanes,
                         [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V])
                             __attribute__((always_inline)) {
#pragma GCC unroll 8
                               for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
                                 for (int v = 0; v < V; ++v) {
                                   float* out = state.ot + (row + i) * kLanes + (first + v) * W;
                                   store(out, fma(load(out), rescale[first + v], c[i][v]));
                                 }
                               }
                             });
}

// o and lse of the block's n queries, at token `t` of head `h`.
template <class T>
void finish(const AttentionArgs& a, const State& state, int64_t t, int64_t h, int64_t n) {
  float factor[kLanes];
  for (int64_t i = 0; i < n; i += W)
    store(factor + i, set1(1.0f / (1.0f - a.dropout)) / load(state.sum + i));
  T* o = static_cast<T*>(a.o.data) + t * a.o.ld + h * a.head_dim;
  untranspose_rows(state.ot, factor, n, a.head_dim, o, a.o.ld);
  if (!a.lse) return;
  for (int64_t i = 0; i < n; ++i)
    a.lse[h * a.tokens + t + i] =
        static_cast<float>(static_cast<double>(state.max[i]) * kLn2 + logf(state.sum[i]));
}

template <class T>
void forward(const AttentionArgs& a, const AttentionPiece& piece) {
  const int64_t d = a.head_dim, column = piece.head * d;
  const Blocks blocks(piece.len);
  const int64_t begin = blocks.count * piece.part / piece.parts;
  const int64_t end = blocks.count * (piece.part + 1) / piece.parts;
  const int64_t chunk = kChunkFloats / d / kTileKeys * kTileKeys;
  const int64_t chunk_rows = (piece.len < chunk ? piece.len : chunk) + kPadRows;
  const int64_t group = end - begin < kGroup ? end - begin : kGroup;

  float *keys, *values, *s;
  State states[kGroup];
  Carver memory{nullptr};
  for (int pass = 0; pass < 2; ++pass) {
    keys = memory.floats(chunk_rows * d);
    values = memory.floats(chunk_rows * d);
    s = memory.floats((kTileKeys + kPadRows) * kLanes);
    for (int64_t g = 0; g < group; ++g)
      states[g] = {memory.floats(d * kLanes), memory.floats(d * kLanes), memory.floats(kLanes),
                   memory.floats(kLanes)};
    if (pass == 0)
      memory = {
          static_cast<char*>(thread_scratch(Scratch::attention, static_cast<size_t>(memory.used)))};
  }

  const T* q = static_cast<const T*>(a.q.data) + piece.start * a.q.ld + column;
  const T* k = static_cast<const T*>(a.k.data) + piece.start * a.k.ld + column;
  const T* v = static_cast<const T*>(a.v.data) + piece.start * a.v.ld + column;
  for (int64_t first = begin; first < end; first += group) {
    const int64_t last = first + group < end ? first + group : end;
    for (int64_t b = first; b < last; ++b) {
      const State& state = states[b - first];
      const int64_t row = blocks.first_row(b);
      transpose_rows(q + row * a.q.ld, a.q.ld, piece.len - row, d, a.scale_log2e, blocks.width(b),
                     state.qt);
      std::memset(state.ot, 0, static_cast<size_t>(d) * kLanes * sizeof(float));
      for (int i = 0; i < kLanes; ++i) {
        state.max[i] = -__builtin_inff();
        state.sum[i] = 0.0f;
      }
    }
    for (int64_t key = 0; key < piece.len; key += chunk) {
      const int64_t n = piece.len - key < chunk ? piece.len - key : chunk;
      copy_rows(k + key * a.k.ld, a.k.ld, n, d, keys, d);
      copy_rows(v + key * a.v.ld, a.v.ld, n, d, values, d);
      // Scores come two keys at a time: an odd one out is doubled, which leaves the maximum alone.
      std::memcpy(keys + n * d, keys + (n - 1) * d, static_cast<size_t>(d) * sizeof(float));
      for (int64_t b = first; b < last; ++b) {
        const int width = blocks.width(b);
        const int64_t query = piece.start + blocks.first_row(b);
        for (int64_t j = 0; j < n; j += kTileKeys) {
          const int64_t tile = n - j < kTileKeys ? n - j : kTileKeys;
          vf tile_max[kBlockVectors], rescale[kBlockVectors];
          tile_scores(states[b - first], keys + j * d, tile, d, width, s, tile_max);
          tile_softmax(states[b - first], tile, width, s, tile_max, rescale);
          if (a.dropout > 0) drop(a, piece.head * a.tokens + query, key + j, tile, width, s);
          tile_output(states[b - first], values + j * d, tile, d, width, s, rescale);
        }
      }
    }
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = blocks.first_row(b), left = piece.len - row;
      const int64_t lanes = blocks.width(b) * W;
      finish<T>(a, states[b - first], piece.start + row, piece.head, left < lanes ? left : lanes);
    }
  }
}

}  // namespace

void attention_fwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  a.bf16 ? forward<bf16>(a, piece) : forward<float>(a, piece);
}

}  // namespace moltide::MOLTIDE_ISA
