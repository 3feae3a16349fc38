// Backward: per tile of keys and block of queries the probabilities again from lse, their
// gradient, and the products into dq, dk, dv. Every sum has one order (keys ascending for dq,
// queries for dk and dv) whether a task writes all three or a part.
#include "attention/backward_ranges_cpu.h"
#include "attention/backward_tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kChunkFloats = 1 << 15;  // query blocks held at a time: 128 KiB per array
constexpr int64_t kMaxGroup = 32;

// Query blocks that share a copy of a tile of keys.
int64_t group_size(const Ranges& range, int64_t d) {
  int64_t n = kChunkFloats / (d * kLanes);
  n = n < 1 ? 1 : n > kMaxGroup ? kMaxGroup : n;
  const int64_t blocks = range.block_end - range.block_begin;
  return n < blocks ? n : blocks;
}

struct Memory {
  float *keys, *values;  // (kTileKeys + kPadRows, D)
  float *p, *ds;         // (kTileKeys + kPadRows, kLanes)
  float* scale;          // (kLanes), all the same
  float *dk, *dv;        // (keys of the task + kPadRows, wide), sums over queries
  QueryBlock blocks[kMaxGroup];

  Memory(const BackwardShape& shape, int64_t group, int64_t key_count) {
    const int64_t sums = shape.want_dkv ? (key_count + kPadRows) * shape.wide : 0;
    Carver carver{nullptr};
    for (int pass = 0; pass < 2; ++pass) {
      keys = carver.floats((kTileKeys + kPadRows) * shape.d);
      values = carver.floats((kTileKeys + kPadRows) * shape.d);
      p = carver.floats((kTileKeys + kPadRows) * kLanes);
      ds = carver.floats((kTileKeys + kPadRows) * kLanes);
      scale = carver.floats(kLanes);
      dk = carver.floats(sums);
      dv = carver.floats(sums);
      for (int64_t g = 0; g < group; ++g) carve_block(carver, shape, blocks[g]);
      if (pass == 0) carver.allocate();
    }
    std::memset(dk, 0, static_cast<size_t>(sums) * sizeof(float));
    std::memset(dv, 0, static_cast<size_t>(sums) * sizeof(float));
  }
};

// The products of one tile: n keys from `key`, with dk and dv their rows of the sums.
void tile(const AttentionArgs& a, const AttentionPiece& piece, const BackwardShape& shape,
          const Memory& m, const QueryBlock& b, int64_t key, int64_t n, float* dk, float* dv) {
  tile_probabilities(b, m.keys, n, shape.d, m.p);
  if (a.dropout > 0) {
    const int64_t first_draw = piece.head * a.tokens + piece.start + b.first_row;
    tile_gradient_dropped(a, b, first_draw, key, m.values, n, shape.d, m.p, m.ds);
  } else {
    tile_gradient(b, m.values, n, shape.d, m.p, m.ds);
  }
  if (shape.want_dq)
    add_product<Left::columns>(shape.d, b.vectors, n, m.keys, shape.d, m.ds, kLanes, b.dqt, kLanes);
  if (shape.want_dkv) {
    const int64_t wide = shape.wide;
    const int vectors = static_cast<int>(wide / W);
    add_product<Left::rows>(even(n), vectors, b.rows, m.p, kLanes, b.dout, wide, dv, wide);
    add_product<Left::rows>(even(n), vectors, b.rows, m.ds, kLanes, b.q, wide, dk, wide);
  }
}

template <class T>
void backward(const AttentionArgs& a, const AttentionPiece& piece) {
  const BackwardShape shape{a.head_dim, (a.head_dim + W - 1) / W * W,
                            piece.task != AttentionTask::dkv, piece.task != AttentionTask::dq};
  const int64_t d = shape.d, column = piece.head * d;
  const Blocks blocks(piece.len);
  const Ranges range(piece, blocks, kTileKeys);
  const int64_t group = group_size(range, d), key_count = range.key_end - range.key_begin;
  Memory m(shape, group, key_count);
  for (int i = 0; i < kLanes; ++i) m.scale[i] = a.scale;

  for (int64_t first = range.block_begin; first < range.block_end; first += group) {
    const int64_t left = range.block_end - first, count = left < group ? left : group;
    for (int64_t g = 0; g < count; ++g)
      fill_block<T>(a, shape, blocks, first + g, piece, m.blocks[g]);
    for (int64_t key = range.key_begin; key < range.key_end; key += kTileKeys) {
      const int64_t n = range.key_end - key < kTileKeys ? range.key_end - key : kTileKeys;
      const int64_t t = piece.start + key, sums = (key - range.key_begin) * shape.wide;
      copy_rows_doubling_last(static_cast<const T*>(a.k.data) + t * a.k.ld + column, a.k.ld, n, d,
                              m.keys);
      copy_rows_doubling_last(static_cast<const T*>(a.v.data) + t * a.v.ld + column, a.v.ld, n, d,
                              m.values);
      for (int64_t g = 0; g < count; ++g)
        tile(a, piece, shape, m, m.blocks[g], key, n, m.dk + sums, m.dv + sums);
    }
    if (!shape.want_dq) continue;
    for (int64_t g = 0; g < count; ++g) {
      const QueryBlock& b = m.blocks[g];
      T* dq = static_cast<T*>(a.dq.data) + (piece.start + b.first_row) * a.dq.ld + column;
      untranspose_rows(b.dqt, m.scale, b.rows, d, dq, a.dq.ld);
    }
  }
  if (!shape.want_dkv) return;
  const int64_t t = piece.start + range.key_begin;
  store_rows(m.dk, shape.wide, a.scale, key_count, d,
             static_cast<T*>(a.dk.data) + t * a.dk.ld + column, a.dk.ld);
  store_rows(m.dv, shape.wide, 1.0f / (1.0f - a.dropout), key_count, d,
             static_cast<T*>(a.dv.data) + t * a.dv.ld + column, a.dv.ld);
}

template <class T>
void delta_rows(const AttentionArgs& a, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* o = static_cast<const T*>(a.o.data) + t * a.o.ld;
    const T* dout = static_cast<const T*>(a.dout.data) + t * a.dout.ld;
    for (int64_t h = 0; h < a.heads; ++h, o += a.head_dim, dout += a.head_dim) {
      vf sum{};
      for (int64_t c = 0; c < a.head_dim; c += W)
        sum = fma(load_columns(o + c, a.head_dim - c), load_columns(dout + c, a.head_dim - c), sum);
      a.delta[h * a.tokens + t] = reduce_add(sum);
    }
  }
}

}  // namespace

void attention_bwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  a.bf16 ? backward<bf16>(a, piece) : backward<float>(a, piece);
}

// delta = rowsum(dout * o), all heads of rows begin .. end.
void attention_bwd_delta(const AttentionArgs& a, int64_t begin, int64_t end) {
  a.bf16 ? delta_rows<bf16>(a, begin, end) : delta_rows<float>(a, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
