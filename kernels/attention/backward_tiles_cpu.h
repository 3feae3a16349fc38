// The backward of one tile of keys and one block of queries.
#pragma once
#include "attention/dropout_cpu.h"
#include "attention/pack_cpu.h"

namespace moltide::MOLTIDE_ISA {

// A block of queries, packed both ways.
struct QueryBlock {
  int64_t first_row, rows;  // of the sequence
  int vectors;
  float* qt;     // (D, kLanes), times scale * log2(e)
  float* doutt;  // (D, kLanes)
  float* q;      // (kLanes, wide), for dk
  float* dout;   // (kLanes, wide), for dv
  float* dqt;    // (D, kLanes), a sum over keys
  float* shift;  // (2, kLanes), -lse log2(e) in two parts: p = 2^(s + first + second)
  float* delta;  // (kLanes)
};

// What a task computes, and the head dimension rounded up to whole vectors.
struct BackwardShape {
  int64_t d, wide;
  bool want_dq, want_dkv;
};

static void carve_block(Carver& memory, const BackwardShape& shape, QueryBlock& b) {
  b.qt = memory.floats(shape.d * kLanes);
  b.doutt = memory.floats(shape.d * kLanes);
  b.shift = memory.floats(2 * kLanes);
  b.delta = memory.floats(kLanes);
  b.dqt = shape.want_dq ? memory.floats(shape.d * kLanes) : nullptr;
  b.q = shape.want_dkv ? memory.floats(kLanes * shape.wide) : nullptr;
  b.dout = shape.want_dkv ? memory.floats(kLanes * shape.wide) : nullptr;
}

// Packs block `index` of the sequence at token `start`; dq starts from zero.
template <class T>
static void fill_block(const AttentionArgs& a, const BackwardShape& shape, const Blocks& blocks,
                       int64_t index, const AttentionPiece& piece, QueryBlock& b) {
  constexpr double kLog2e = 1.44269504088896341;
  b.first_row = blocks.first_row(index);
  b.vectors = blocks.width(index);
  b.rows = piece.len - b.first_row < b.vectors * W ? piece.len - b.first_row : b.vectors * W;
  const int64_t d = shape.d, column = piece.head * d, t = piece.start + b.first_row;
  const T* q = static_cast<const T*>(a.q.data) + t * a.q.ld + column;
  const T* dout = static_cast<const T*>(a.dout.data) + t * a.dout.ld + column;
  transpose_rows(q, a.q.ld, b.rows, d, a.scale_log2e, b.vectors, b.qt);
  transpose_rows(dout, a.dout.ld, b.rows, d, 1.0f, b.vectors, b.doutt);
  const int64_t statistics = piece.head * a.tokens + t;
  for (int64_t i = 0; i < kLanes; ++i) {
    const double shift = i < b.rows ? -kLog2e * a.lse[statistics + i] : 0.0;
    b.shift[i] = static_cast<float>(shift);
    b.shift[kLanes + i] = static_cast<float>(shift - b.shift[i]);
    b.delta[i] = i < b.rows ? a.delta[statistics + i] : 0.0f;
  }
  if (shape.want_dq) std::memset(b.dqt, 0, static_cast<size_t>(d) * kLanes * sizeof(float));
  if (shape.want_dkv) {
    copy_rows(q, a.q.ld, b.rows, d, b.q, shape.wide);
    copy_rows(dout, a.dout.ld, b.rows, d, b.dout, shape.wide);
  }
}

// p = 2^(K Qt + shift)
static void tile_probabilities(const QueryBlock& b, const float* keys, int64_t n, int64_t d,
                               float* p) {
  product<Left::rows>(even(n), b.vectors, d, keys, d, b.qt, kLanes,
                      each_element([&](int64_t key, int v, vf s) MOLTIDE_INLINED {
                        const float* shift = b.shift + v * W;
                        s = s + load(shift) + load(shift + kLanes);
                        store(p + key * kLanes + v * W, exp2_nonpositive(s));
                      }));
}

// ds = p * (V dOutt - delta)
static void tile_gradient(const QueryBlock& b, const float* values, int64_t n, int64_t d,
                          const float* p, float* ds) {
  product<Left::rows>(even(n), b.vectors, d, values, d, b.doutt, kLanes,
                      each_element([&](int64_t key, int v, vf dp) MOLTIDE_INLINED {
                        const int64_t at = key * kLanes + v * W;
                        store(ds + at, load(p + at) * (dp - load(b.delta + v * W)));
                      }));
}

// The same through the draws the forward made; then p = 0 where dropped.
static void tile_gradient_dropped(const AttentionArgs& a, const QueryBlock& b, int64_t first_draw,
                                  int64_t first_key, const float* values, int64_t n, int64_t d,
                                  float* p, float* ds) {
  const auto store_dp = [&](int64_t key, int v, vf dp)
                            MOLTIDE_INLINED { store(ds + key * kLanes + v * W, dp); };
  product<Left::rows>(even(n), b.vectors, d, values, d, b.doutt, kLanes, each_element(store_dp));
  const vf keep = set1(1.0f / (1.0f - a.dropout));
  for_kept(a, first_draw, first_key, n, b.vectors, [&](int64_t key, int v, vi kept) {
    const int64_t at = key * kLanes + v * W;
    const vf probability = load(p + at);
    const vf dp = select(kept, load(ds + at) * keep, vf{});
    store(ds + at, probability * (dp - load(b.delta + v * W)));
    store(p + at, select(kept, probability, vf{}));
  });
}

// c += left * right, rows of c `stride` apart.
template <Left layout>
static void add_product(int64_t rows, int vectors, int64_t n, const float* left,
                        int64_t left_stride, const float* right, int64_t right_stride, float* c,
                        int64_t stride) {
  product<layout>(rows, vectors, n, left, left_stride, right, right_stride,
                  each_element([&](int64_t row, int v, vf sum) MOLTIDE_INLINED {
                    float* out = c + row * stride + v * W;
                    store(out, load(out) + sum);
                  }));
}

}  // namespace moltide::MOLTIDE_ISA
