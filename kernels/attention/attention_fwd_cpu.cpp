// Forward: for a group of query blocks, all keys in chunks that are copied once; per tile of keys
// the scores, the online softmax and the product with the values.
#include <math.h>

#include "attention/forward_tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kMaxGroup = 8;           // query blocks that share a copy of a chunk of keys
constexpr int64_t kChunkFloats = 1 << 15;  // a chunk of keys and its values: 128 KiB each

struct Memory {
  float *keys, *values;  // (chunk + kPadRows, D)
  float* s;              // (kTileKeys + kPadRows, kLanes)
  ForwardState states[kMaxGroup];

  Memory(int64_t d, int64_t chunk, int64_t group) {
    Carver carver{nullptr};
    for (int pass = 0; pass < 2; ++pass) {
      keys = carver.floats((chunk + kPadRows) * d);
      values = carver.floats((chunk + kPadRows) * d);
      s = carver.floats((kTileKeys + kPadRows) * kLanes);
      for (int64_t g = 0; g < group; ++g) {
        states[g].qt = carver.floats(d * kLanes);
        states[g].ot = carver.floats(d * kLanes);
        states[g].max = carver.floats(kLanes);
        states[g].sum = carver.floats(kLanes);
      }
      if (pass == 0) carver.allocate();
    }
  }
};

template <class T>
void begin_block(const AttentionArgs& a, const AttentionPiece& piece, const Blocks& blocks,
                 int64_t index, ForwardState& state) {
  const int64_t d = a.head_dim, row = blocks.first_row(index), left = piece.len - row;
  state.first_row = row;
  state.vectors = blocks.width(index);
  state.rows = left < state.vectors * W ? left : state.vectors * W;
  const T* q = static_cast<const T*>(a.q.data) + (piece.start + row) * a.q.ld + piece.head * d;
  transpose_rows(q, a.q.ld, state.rows, d, a.scale_log2e, state.vectors, state.qt);
  std::memset(state.ot, 0, static_cast<size_t>(d) * kLanes * sizeof(float));
  for (int i = 0; i < kLanes; ++i) {
    state.max[i] = -__builtin_inff();
    state.sum[i] = 0.0f;
  }
}

// n keys from `first_key`, the block's copies of them and of their values at `keys`, `values`.
void tile(const AttentionArgs& a, const AttentionPiece& piece, const ForwardState& state,
          int64_t first_key, int64_t n, const float* keys, const float* values, float* s) {
  vf tile_max[kBlockVectors], rescale[kBlockVectors];
  tile_scores(state, keys, n, a.head_dim, s, tile_max);
  tile_softmax(state, n, s, tile_max, rescale);
  if (a.dropout > 0) {
    const int64_t first_draw = piece.head * a.tokens + piece.start + state.first_row;
    tile_drop(a, first_draw, first_key, n, state.vectors, s);
  }
  tile_output(state, values, n, a.head_dim, s, rescale);
}

template <class T>
void finish_block(const AttentionArgs& a, const AttentionPiece& piece, const ForwardState& state) {
  constexpr double kLn2 = 0.69314718055994531;
  float factor[kLanes];
  for (int64_t i = 0; i < state.rows; i += W)
    store(factor + i, set1(1.0f / (1.0f - a.dropout)) / load(state.sum + i));
  const int64_t d = a.head_dim, t = piece.start + state.first_row;
  T* o = static_cast<T*>(a.o.data) + t * a.o.ld + piece.head * d;
  untranspose_rows(state.ot, factor, state.rows, d, o, a.o.ld);
  if (!a.lse) return;
  for (int64_t i = 0; i < state.rows; ++i)
    a.lse[piece.head * a.tokens + t + i] =
        static_cast<float>(state.max[i] * kLn2 + logf(state.sum[i]));
}

template <class T>
void forward(const AttentionArgs& a, const AttentionPiece& piece) {
  const int64_t d = a.head_dim, column = piece.head * d;
  const Blocks blocks(piece.len);
  const int64_t begin = blocks.count * piece.part / piece.parts;
  const int64_t end = blocks.count * (piece.part + 1) / piece.parts;
  const int64_t group = end - begin < kMaxGroup ? end - begin : kMaxGroup;
  int64_t chunk = kChunkFloats / d / kTileKeys * kTileKeys;
  if (chunk > piece.len) chunk = piece.len;
  Memory m(d, chunk, group);

  for (int64_t first = begin; first < end; first += group) {
    const int64_t count = end - first < group ? end - first : group;
    for (int64_t g = 0; g < count; ++g) begin_block<T>(a, piece, blocks, first + g, m.states[g]);
    for (int64_t key = 0; key < piece.len; key += chunk) {
      const int64_t n = piece.len - key < chunk ? piece.len - key : chunk, t = piece.start + key;
      copy_rows_doubling_last(static_cast<const T*>(a.k.data) + t * a.k.ld + column, a.k.ld, n, d,
                              m.keys);
      copy_rows(static_cast<const T*>(a.v.data) + t * a.v.ld + column, a.v.ld, n, d, m.values, d);
      for (int64_t g = 0; g < count; ++g)
        for (int64_t j = 0; j < n; j += kTileKeys)
          tile(a, piece, m.states[g], key + j, n - j < kTileKeys ? n - j : kTileKeys,
               m.keys + j * d, m.values + j * d, m.s);
    }
    for (int64_t g = 0; g < count; ++g) finish_block<T>(a, piece, m.states[g]);
  }
}

}  // namespace

void attention_fwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  a.bf16 ? forward<bf16>(a, piece) : forward<float>(a, piece);
}

}  // namespace moltide::MOLTIDE_ISA
