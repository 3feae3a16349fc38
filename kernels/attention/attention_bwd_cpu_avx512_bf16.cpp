// Backward with bf16 dot products on vectors. Queries lie along the lanes; per tile of keys the
// probabilities again from lse and the gradients of the scores, rounded to bf16 and kept twice: in
// pairs of queries for dk and dv, whose columns lie along the lanes, in pairs of keys for dq.
#include "attention/backward_ranges_cpu.h"
#include "attention/dropout_cpu.h"
#include "attention/pairs_cpu_avx512_bf16.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kKeys = 48;       // of a tile
constexpr int kGroup = 2 * W;       // queries that are rounded at a time
constexpr int kPairs = kLanes / 2;  // of queries of a block

// Queries of a block are in pairs of keys by fours, as _mm512_unpacklo_epi16 leaves them: lane j of
// the first vector of a group has this one, of the second 4 more.
MOLTIDE_INLINE int64_t unpacked_query(int64_t j) {
  return j / 4 * 8 + j % 4;
}

struct Backward {
  const AttentionArgs& a;
  const AttentionPiece& piece;
  Blocks blocks;
  Ranges range;
  bool want_dq, want_dkv;
  int64_t d, wide, key_count;  // head dimension, and in whole vectors; keys of the task, even
  bf16 *keys, *values;         // (key_count, D)
  uint32_t* key_pairs;         // (key_count / 2, D)
  float *dk, *dv;              // (key_count, wide), sums over queries
  uint32_t *qt, *doutt;        // (D / 2, kLanes) of the block
  uint32_t *q, *dout;          // (kPairs, wide) of the block
  float *shift, *delta, *dqt;  // (kLanes), (kLanes), (D, kLanes) of the block
  uint32_t *p, *ds;            // (kKeys, kPairs) of the tile
  uint32_t* ds_keys;           // (kKeys / 2, kLanes) of the tile
  uint16_t* kept;  // (kKeys, kBlockVectors) of the tile: bits of the queries not dropped

  Backward(const AttentionArgs& args, const AttentionPiece& part)
      : a(args), piece(part), blocks(part.len), range(part, blocks, kKeys) {
    want_dq = part.task != AttentionTask::dkv;
    want_dkv = part.task != AttentionTask::dq;
    d = a.head_dim;
    wide = (d + W - 1) / W * W;
    key_count = even(range.key_end - range.key_begin);
    Carver carver{nullptr};
    const auto words = [&](int64_t n) { return reinterpret_cast<uint32_t*>(carver.floats(n)); };
    for (int pass = 0; pass < 2; ++pass) {
      keys = reinterpret_cast<bf16*>(words(key_count * d / 2));
      values = reinterpret_cast<bf16*>(words(key_count * d / 2));
      key_pairs = words(key_count / 2 * d);
      dk = carver.floats(want_dkv ? key_count * wide : 0);
      dv = carver.floats(want_dkv ? key_count * wide : 0);
      qt = words(d / 2 * kLanes);
      doutt = words(d / 2 * kLanes);
      q = words(kPairs * wide);
      dout = words(kPairs * wide);
      shift = carver.floats(kLanes);
      delta = carver.floats(kLanes);
      dqt = carver.floats(d * kLanes);
      p = words(kKeys * kPairs);
      ds = words(kKeys * kPairs);
      ds_keys = words(kKeys / 2 * kLanes);
      kept = reinterpret_cast<uint16_t*>(words(kKeys * kBlockVectors / 2));
      if (pass == 0) carver.allocate();
    }
    const int64_t n = range.key_end - range.key_begin;
    copy(head(a.k, range.key_begin), a.k.ld, n, keys);
    copy(head(a.v, range.key_begin), a.v.ld, n, values);
    pair_rows(keys, d, n, d, key_count / 2, d, key_pairs);
    if (!want_dkv) return;
    std::memset(dk, 0, static_cast<size_t>(key_count * wide) * sizeof(float));
    std::memset(dv, 0, static_cast<size_t>(key_count * wide) * sizeof(float));
  }
  bf16* head(const AttentionMatrix& x, int64_t row) const {
    return static_cast<bf16*>(x.data) + (piece.start + row) * x.ld + piece.head * d;
  }
  // Zeros for the key that makes their number even.
  void copy(const bf16* rows, int64_t ld, int64_t n, bf16* out) const {
    const size_t bytes = static_cast<size_t>(d) * sizeof(bf16);
    for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * d, rows + i * ld, bytes);
    if (n < key_count) std::memset(out + n * d, 0, bytes);
  }
};

struct Block {
  int64_t first_row, rows;  // of the sequence
  int groups;               // of kGroup queries, the last may be half empty
};

void begin_block(const Backward& f, const Block& b) {
  constexpr double kLog2e = 1.44269504088896341;
  const bf16* q = f.head(f.a.q, b.first_row);
  const bf16* dout = f.head(f.a.dout, b.first_row);
  const bf16* o = f.head(f.a.o, b.first_row);
  for (int v = 0; v < 2 * b.groups; ++v) {
    const int64_t first = v * W < b.rows ? v * W : 0, n = v * W < b.rows ? b.rows - v * W : 0;
    const auto each_pair = [&](const bf16* rows, int64_t ld, auto&& take) MOLTIDE_INLINED {
      for_column_pairs(rows + first * ld, ld, n, f.d, take);
    };
    const auto at = [&](uint32_t* x, int64_t c) MOLTIDE_INLINED { return x + c * kLanes + v * W; };
    each_pair(q, f.a.q.ld,
              [&](int64_t c, __m512i x) MOLTIDE_INLINED { _mm512_store_si512(at(f.qt, c), x); });
    each_pair(dout, f.a.dout.ld,
              [&](int64_t c, __m512i x) MOLTIDE_INLINED { _mm512_store_si512(at(f.doutt, c), x); });
    // In the order of dout v^T, so that a key with all the weight has no gradient but zero.
    vf delta = {};
    each_pair(o, f.a.o.ld, [&](int64_t c, __m512i x) MOLTIDE_INLINED {
      delta = add_products(delta, _mm512_load_si512(at(f.doutt, c)), x);
    });
    store(f.delta + v * W, delta);
  }
  const int64_t pairs = b.groups * W;
  if (f.want_dkv) pair_rows(q, f.a.q.ld, b.rows, f.d, pairs, f.wide, f.q);
  if (f.want_dkv) pair_rows(dout, f.a.dout.ld, b.rows, f.d, pairs, f.wide, f.dout);
  const int64_t statistics = f.piece.head * f.a.tokens + f.piece.start + b.first_row;
  for (int64_t i = 0; i < kLanes; ++i) {
    f.shift[i] = i < b.rows ? static_cast<float>(-kLog2e * f.a.lse[statistics + i]) : 0.0f;
  }
}

// p and ds of R keys (even) and one group of queries. last: the last key is none.
template <int R, bool kDrop>
MOLTIDE_APART void tile_rows(const Backward& f, const bf16* keys, const bf16* values, int64_t row,
                             int group, bool last) {
  vf s[R][2], dp[R][2];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) s[i][0] = s[i][1] = dp[i][0] = dp[i][1] = vf{};
  const auto pair = [](const bf16* x) MOLTIDE_INLINED {
    int both;
    std::memcpy(&both, x, sizeof(both));
    return _mm512_set1_epi32(both);
  };
  const uint32_t* q = f.qt + group * kGroup;
  const uint32_t* dout = f.doutt + group * kGroup;
  keys += row * f.d;
  values += row * f.d;
  for (int64_t c = 0; c < f.d; c += 2, q += kLanes, dout += kLanes) {
    const __m512i q0 = _mm512_load_si512(q), q1 = _mm512_load_si512(q + W);
    const __m512i o0 = _mm512_load_si512(dout), o1 = _mm512_load_si512(dout + W);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const __m512i k = pair(keys + i * f.d + c), v = pair(values + i * f.d + c);
      s[i][0] = add_products(s[i][0], q0, k);
      s[i][1] = add_products(s[i][1], q1, k);
      dp[i][0] = add_products(dp[i][0], o0, v);
      dp[i][1] = add_products(dp[i][1], o1, v);
    }
  }
  const vf scale = set1(f.a.scale_log2e), keep = set1(1.0f / (1.0f - f.a.dropout));
  const float* shift = f.shift + group * kGroup;
  const float* delta = f.delta + group * kGroup;
  __m512i packed[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    const uint16_t* kept = f.kept + (row + i) * kBlockVectors + 2 * group;
    vf p[2], ds[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      p[v] = exp2_for_bf16(fma(s[i][v], scale, load(shift + v * W)));
      vf x = dp[i][v];
      if (kDrop) x = (vf)_mm512_maskz_mul_ps(kept[v], (__m512)x, (__m512)keep);
      ds[v] = p[v] * (x - load(delta + v * W));
    }
    __m512i probabilities = to_bf16_pair(p[0], p[1]);
    packed[i] = to_bf16_pair(ds[0], ds[1]);
    if (kDrop) {
      const uint32_t both = kept[0] | static_cast<uint32_t>(kept[1]) << 16;
      probabilities = _mm512_maskz_mov_epi16(both, probabilities);
    }
    if (i == R - 1 && last) probabilities = packed[i] = _mm512_setzero_si512();
    _mm512_store_si512(f.p + (row + i) * kPairs + group * W, probabilities);
    _mm512_store_si512(f.ds + (row + i) * kPairs + group * W, packed[i]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; i += 2) {
    uint32_t* to = f.ds_keys + (row + i) / 2 * kLanes + group * kGroup;
    _mm512_store_si512(to, _mm512_unpacklo_epi16(packed[i], packed[i + 1]));
    _mm512_store_si512(to + W, _mm512_unpackhi_epi16(packed[i], packed[i + 1]));
  }
}

// Of n keys from `key` of the task's.
template <bool kDrop>
void tile_gradients(const Backward& f, const Block& b, int64_t key, int64_t n) {
  const bf16 *keys = f.keys + key * f.d, *values = f.values + key * f.d;
  for (int g = 0; g < b.groups; ++g) {
    int64_t row = 0;
    const auto rows = [&]<int R>() MOLTIDE_INLINED {
      tile_rows<R, kDrop>(f, keys, values, row, g, row + R > n);
      row += R;
    };
    while (row + 6 <= even(n)) rows.template operator()<6>();
    if (row + 4 <= even(n)) rows.template operator()<4>();
    if (row + 2 <= even(n)) rows.template operator()<2>();
  }
}

void draw(const Backward& f, const Block& b, int64_t key, int64_t n) {
  std::memset(f.kept, 0, kKeys * kBlockVectors * sizeof(uint16_t));
  const int64_t first_draw = f.piece.head * f.a.tokens + f.piece.start + b.first_row;
  for_kept(f.a, first_draw, f.range.key_begin + key, n, 2 * b.groups,
           [&](int64_t j, int v, vi kept) {
             f.kept[j * kBlockVectors + v] = _mm512_movepi32_mask((__m512i)kept);
           });
}

// c (n, wide) += left right, left (n, kPairs).
void add_to_keys(const Backward& f, const Block& b, int64_t n, const uint32_t* left,
                 const uint32_t* right, float* c) {
  for_vector_groups(static_cast<int>(f.wide / W), [&]<int V>(int first) MOLTIDE_INLINED {
    add_row_pairs<V>(even(n), left, kPairs, 1, right + first * W, f.wide, b.groups * W, false,
                     c + first * W, f.wide);
  });
}

void tile(const Backward& f, const Block& b, int64_t key, int64_t n) {
  if (f.a.dropout > 0) {
    draw(f, b, key, n);
    tile_gradients<true>(f, b, key, n);
  } else {
    tile_gradients<false>(f, b, key, n);
  }
  if (f.want_dq) {
    const uint32_t* pairs = f.key_pairs + key / 2 * f.d;
    const auto add = b.groups == 2 ? add_row_pairs<4> : add_row_pairs<2>;
    add(f.d, pairs, 1, f.d, f.ds_keys, kLanes, even(n) / 2, key == 0, f.dqt, kLanes);
  }
  if (f.want_dkv) {
    add_to_keys(f, b, n, f.p, f.dout, f.dv + key * f.wide);
    add_to_keys(f, b, n, f.ds, f.q, f.dk + key * f.wide);
  }
}

void store_dq(const Backward& f, const Block& b) {
  const vf scale = set1(f.a.scale);
  bf16* dq = f.head(f.a.dq, b.first_row);
  for (int v = 0; v < 2 * b.groups; ++v) {
    store_lanes(f.dqt + v * W, scale, f.d, [&](int64_t i) MOLTIDE_INLINED {
      const int64_t row = v / 2 * kGroup + v % 2 * 4 + unpacked_query(i);
      return row < b.rows ? dq + row * f.a.dq.ld : nullptr;
    });
  }
}

}  // namespace

void attention_bwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  const Backward f(a, piece);
  const int64_t n = f.range.key_end - f.range.key_begin;
  for (int64_t i = f.range.block_begin; i < f.range.block_end; ++i) {
    const int64_t row = f.blocks.first_row(i), left = piece.len - row;
    const int vectors = f.blocks.width(i);
    const Block b{row, left < vectors * W ? left : vectors * W, (vectors + 1) / 2};
    begin_block(f, b);
    for (int64_t key = 0; key < n; key += kKeys) tile(f, b, key, n - key < kKeys ? n - key : kKeys);
    if (f.want_dq) store_dq(f, b);
  }
  if (!f.want_dkv) return;
  store_rows(f.dk, f.wide, a.scale, n, f.d, f.head(a.dk, f.range.key_begin), a.dk.ld);
  store_rows(f.dv, f.wide, 1.0f / (1.0f - a.dropout), n, f.d, f.head(a.dv, f.range.key_begin),
             a.dv.ld);
}

}  // namespace moltide::MOLTIDE_ISA
