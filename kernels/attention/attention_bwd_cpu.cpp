// Backward: per tile of keys and block of queries the probabilities again from lse, their
// gradient, and the products into dq, dk, dv. Every sum has one order (keys ascending for dq,
// queries for dk and dv) whether a task writes all three or a part.
#include "attention/dropout_cpu.h"
#include "attention/pack_cpu.h"
#include "core/parallel.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kTileKeys = 64;
constexpr int64_t kTileFloats = (kTileKeys + kPadRows) * kLanes;
constexpr int64_t kChunkFloats = 1 << 15;  // query blocks held at a time: 128 KiB per array
constexpr double kLog2e = 1.44269504088896341;

// A block of queries, packed both ways.
struct Block {
  float* qt;     // (D, kLanes), times scale * log2(e)
  float* doutt;  // (D, kLanes)
  float* q;      // (kLanes, wide)
  float* dout;   // (kLanes, wide)
  float* dqt;    // (D, kLanes), a sum over keys
  float* shift;  // (2, kLanes), -lse log2(e) in two parts: p = 2^(s + first + second)
  float* delta;  // (kLanes)
};

struct Shape {
  int64_t d, wide;  // head dimension; rounded up to whole vectors
  bool want_dq, want_dkv;
};

Block carve_block(Carver& memory, const Shape& shape) {
  Block b{};
  b.qt = memory.floats(shape.d * kLanes);
  b.doutt = memory.floats(shape.d * kLanes);
  b.shift = memory.floats(2 * kLanes);
  b.delta = memory.floats(kLanes);
  if (shape.want_dq) b.dqt = memory.floats(shape.d * kLanes);
  if (shape.want_dkv) {
    b.q = memory.floats(kLanes * shape.wide);
    b.dout = memory.floats(kLanes * shape.wide);
  }
  return b;
}

// The n queries (of `vectors` vectors) from token t.
template <class T>
void fill_block(const AttentionArgs& a, const Shape& shape, const Block& b, int64_t t, int64_t head,
                int64_t n, int vectors) {
  const int64_t d = shape.d, column = head * d;
  const T* q = static_cast<const T*>(a.q.data) + t * a.q.ld + column;
  const T* dout = static_cast<const T*>(a.dout.data) + t * a.dout.ld + column;
  transpose_rows(q, a.q.ld, n, d, a.scale_log2e, vectors, b.qt);
  transpose_rows(dout, a.dout.ld, n, d, 1.0f, vectors, b.doutt);
  for (int64_t i = 0; i < kLanes; ++i) {
    const double shift = i < n ? -kLog2e * a.lse[head * a.tokens + t + i] : 0.0;
    b.shift[i] = static_cast<float>(shift);
    b.shift[kLanes + i] = static_cast<float>(shift - b.shift[i]);
    b.delta[i] = i < n ? a.delta[head * a.tokens + t + i] : 0.0f;
  }
  if (shape.want_dq) std::memset(b.dqt, 0, static_cast<size_t>(d) * kLanes * sizeof(float));
  if (shape.want_dkv) {
    copy_rows(q, a.q.ld, n, d, b.q, shape.wide);
    copy_rows(dout, a.dout.ld, n, d, b.dout, shape.wide);
  }
}

// p = 2^(K Qt + shift)
void tile_probabilities(const Block& b, const float* keys, int64_t n, int64_t d, int vectors,
                        float* p) {
  product<Left::rows>(
      (n + 1) & ~int64_t{1}, vectors, d, keys, d, b.qt, kLanes,
      [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V]) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            const float* shift = b.shift + (first + v) * W;
            const vf x = c[i][v] + load(shift) + load(shift + kLanes);
            store(p + (row + i) * kLanes + (first + v) * W, exp2_nonpositive(x));
          }
        }
      });
}

// ds = p * (V dOutt - delta), or with dropout ds = V dOutt alone.
template <bool dropout>
void tile_gradient(const Block& b, const float* values, int64_t n, int64_t d, int vectors,
                   const float* p, float* ds) {
  product<Left::rows>(
      (n + 1) & ~int64_t{1}, vectors, d, values, d, b.doutt, kLanes,
      [&]<int R, int V>(int64_t row, int first, vf(&c)[R][V]) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) {
            const int64_t at = (row + i) * kLanes + (first + v) * W;
            const vf delta = load(b.delta + (first + v) * W);
            store(ds + at, dropout ? c[i][v] : load(p + at) * (c[i][v] - delta));
          }
        }
      });
}

// From ds = V dOutt: the gradient through the draws the forward made; p = 0 where dropped.
void drop_gradient(const AttentionArgs& a, const Block& b, int64_t first_row, int64_t first_key,
                   int64_t n, int vectors, float* p, float* ds) {
  const vf keep = set1(1.0f / (1.0f - a.dropout));
  for_kept(a, first_row, first_key, n, vectors, [&](int64_t key, int v, vi kept) {
    const int64_t at = key * kLanes + v * W;
    const vf probability = load(p + at);
    const vf dp = (vf)((vi)(load(ds + at) * keep) & kept);
    store(ds + at, probability * (dp - load(b.delta + v * W)));
    store(p + at, (vf)((vi)probability & kept));
  });
}

// c += left * right, rows of c `stride` apart.
template <Left layout>
void add_product(int64_t rows, int vectors, int64_t n, const float* left, int64_t left_stride,
                 const float* right, int64_t right_stride, float* c, int64_t stride) {
  product<layout>(rows, vectors, n, left, left_stride, right, right_stride,
                  [&]<int R, int V>(int64_t row, int first, vf(&sum)[R][V])
                      __attribute__((always_inline)) {
#pragma GCC unroll 8
                        for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
                          for (int v = 0; v < V; ++v) {
                            float* out = c + (row + i) * stride + (first + v) * W;
                            store(out, load(out) + sum[i][v]);
                          }
                        }
                      });
}

template <class T>
void backward(const AttentionArgs& a, const AttentionPiece& piece) {
  const bool want_dq = piece.task != AttentionTask::dkv;
  const bool want_dkv = piece.task != AttentionTask::dq;
  const Shape shape{a.head_dim, (a.head_dim + W - 1) / W * W, want_dq, want_dkv};
  const int64_t d = shape.d, column = piece.head * d, len = piece.len;
  const Blocks blocks(len);
  const int64_t tiles = (len + kTileKeys - 1) / kTileKeys;

  // A part of the queries for dq alone, a part of the keys for dk and dv alone.
  const int64_t query_part = want_dkv ? 0 : piece.part, query_parts = want_dkv ? 1 : piece.parts;
  const int64_t key_part = want_dq ? 0 : piece.part, key_parts = want_dq ? 1 : piece.parts;
  const int64_t block_begin = blocks.count * query_part / query_parts;
  const int64_t block_end = blocks.count * (query_part + 1) / query_parts;
  const int64_t key_begin = tiles * key_part / key_parts * kTileKeys;
  int64_t key_end = tiles * (key_part + 1) / key_parts * kTileKeys;
  if (key_end > len) key_end = len;

  constexpr int64_t kMaxGroup = 32;
  int64_t group = kChunkFloats / (d * kLanes);
  if (group > kMaxGroup) group = kMaxGroup;
  if (group > block_end - block_begin) group = block_end - block_begin;
  if (group < 1) group = 1;

  const int64_t sums = (key_end - key_begin + kPadRows) * shape.wide;
  float *keys, *values, *p, *ds, *dk = nullptr, *dv = nullptr, *factor;
  Block block[kMaxGroup];
  Carver memory{nullptr};
  for (int pass = 0; pass < 2; ++pass) {
    keys = memory.floats((kTileKeys + kPadRows) * d);
    values = memory.floats((kTileKeys + kPadRows) * d);
    p = memory.floats(kTileFloats);
    ds = memory.floats(kTileFloats);
    factor = memory.floats(kLanes);
    for (int64_t g = 0; g < group; ++g) block[g] = carve_block(memory, shape);
    if (want_dkv) {
      dk = memory.floats(sums);
      dv = memory.floats(sums);
    }
    if (pass == 0)
      memory = {
          static_cast<char*>(thread_scratch(Scratch::attention, static_cast<size_t>(memory.used)))};
  }
  if (want_dkv) {
    std::memset(dk, 0, static_cast<size_t>(sums) * sizeof(float));
    std::memset(dv, 0, static_cast<size_t>(sums) * sizeof(float));
  }
  for (int i = 0; i < kLanes; ++i) factor[i] = a.scale;

  const int wide = static_cast<int>(shape.wide / W);
  for (int64_t first = block_begin; first < block_end; first += group) {
    const int64_t last = first + group < block_end ? first + group : block_end;
    int64_t rows[kMaxGroup];
    for (int64_t b = first; b < last; ++b) {
      const int64_t row = blocks.first_row(b), lanes = blocks.width(b) * W;
      rows[b - first] = len - row < lanes ? len - row : lanes;
      fill_block<T>(a, shape, block[b - first], piece.start + row, piece.head, rows[b - first],
                    blocks.width(b));
    }
    for (int64_t key = key_begin; key < key_end; key += kTileKeys) {
      const int64_t n = key_end - key < kTileKeys ? key_end - key : kTileKeys;
      const int64_t even = (n + 1) & ~int64_t{1};
      const int64_t t = piece.start + key;
      copy_rows(static_cast<const T*>(a.k.data) + t * a.k.ld + column, a.k.ld, n, d, keys, d);
      copy_rows(static_cast<const T*>(a.v.data) + t * a.v.ld + column, a.v.ld, n, d, values, d);
      // Rows come two at a time: an odd one out gets a neighbour whose results nobody reads.
      std::memcpy(keys + n * d, keys + (n - 1) * d, static_cast<size_t>(d) * sizeof(float));
      std::memcpy(values + n * d, values + (n - 1) * d, static_cast<size_t>(d) * sizeof(float));
      for (int64_t g = first; g < last; ++g) {
        const Block& b = block[g - first];
        const int vectors = blocks.width(g);
        tile_probabilities(b, keys, n, d, vectors, p);
        if (a.dropout > 0) {
          const int64_t row = piece.head * a.tokens + piece.start + blocks.first_row(g);
          tile_gradient<true>(b, values, n, d, vectors, p, ds);
          drop_gradient(a, b, row, key, n, vectors, p, ds);
        } else {
          tile_gradient<false>(b, values, n, d, vectors, p, ds);
        }
        if (want_dq) add_product<Left::columns>(d, vectors, n, keys, d, ds, kLanes, b.dqt, kLanes);
        if (want_dkv) {
          const int64_t at = (key - key_begin) * shape.wide, queries = rows[g - first];
          add_product<Left::rows>(even, wide, queries, p, kLanes, b.dout, shape.wide, dv + at,
                                  shape.wide);
          add_product<Left::rows>(even, wide, queries, ds, kLanes, b.q, shape.wide, dk + at,
                                  shape.wide);
        }
      }
    }
    if (!want_dq) continue;
    for (int64_t b = first; b < last; ++b) {
      T* dq = static_cast<T*>(a.dq.data) + (piece.start + blocks.first_row(b)) * a.dq.ld + column;
      untranspose_rows(block[b - first].dqt, factor, rows[b - first], d, dq, a.dq.ld);
    }
  }
  if (!want_dkv) return;
  const int64_t t = piece.start + key_begin, n = key_end - key_begin;
  store_rows(dk, shape.wide, a.scale, n, d, static_cast<T*>(a.dk.data) + t * a.dk.ld + column,
             a.dk.ld);
  store_rows(dv, shape.wide, 1.0f / (1.0f - a.dropout), n, d,
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
