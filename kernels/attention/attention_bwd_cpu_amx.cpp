// Backward on AMX tiles, bf16. Keys lie along the rows of a tile and queries along its columns:
//   S = K Q^T, P from lse, dP = V dO^T, dS = P (dP - delta);  dV += P dO, dK += dS Q, dQ^T += K^T
//   dS
// with P and dS rounded to bf16 for the products. Each sum has one order, keys ascending for dq and
// queries for dk and dv, whether a task writes all three or a part.
#include "attention/dropout_cpu.h"
#include "attention/pack_cpu_amx.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int kQueries = 64;  // of a block
constexpr int kKeys = 64;     // of a block
constexpr int kHalf = 32;     // keys whose scores are held at a time
constexpr int kVectors = kQueries / W;
constexpr int kLeftTile = 2 * kTileBytes;  // P and dS: 16 keys by two steps of queries

struct Backward {
  const AttentionArgs& a;
  const AttentionPiece& piece;
  bool want_dq, want_dkv;
  int64_t d, steps, wide;
  int64_t query_begin, query_end, key_begin, key_end;  // of the sequence, that this piece looks at
  char *keys, *values, *keys_transposed;               // left tiles, of all keys looked at
  char *q_columns, *dout_columns;                      // right tiles of the transposed block
  char *q_rows, *dout_rows;                            // right tiles of the block
  float *s, *dp;                                       // (kHalf, kQueries)
  char *p, *ds;                                        // left tiles [kKeys / 16][kQueries / 32]
  char* ds_columns;  // right tiles [kKeys / 32][kQueries / 16], their columns as pair_columns says
  float *shift, *delta;  // (kQueries)
  float *dk, *dv;        // (keys looked at, wide), sums over queries
  float* dqt;            // (wide, kQueries)
  __mmask16* kept;       // (kKeys, kVectors), with dropout

  Backward(const AttentionArgs& args, const AttentionPiece& part) : a(args), piece(part) {
    want_dq = piece.task != AttentionTask::dkv;
    want_dkv = piece.task != AttentionTask::dq;
    d = a.head_dim;
    steps = tiles_of(d, kTileDepth);
    wide = tiles_of(d, kTile) * kTile;
    query_begin = key_begin = 0;
    query_end = key_end = piece.len;
    if (piece.task == AttentionTask::dq) part_of(kQueries, &query_begin, &query_end);
    if (piece.task == AttentionTask::dkv) part_of(kKeys, &key_begin, &key_end);
    const int64_t key_steps = tiles_of(key_end - key_begin, kTileDepth), columns = wide / kTile;
    const int64_t sums = want_dkv ? key_steps * kTileDepth * wide : 0;
    Carver carver{nullptr};
    const auto tiles = [&](int64_t n) {
      return reinterpret_cast<char*>(carver.floats(n * kTileBytes / 4));
    };
    for (int pass = 0; pass < 2; ++pass) {
      s = carver.floats(kHalf * kQueries);
      dp = carver.floats(kHalf * kQueries);
      p = tiles(kKeys * kQueries / 512);
      ds = tiles(kKeys * kQueries / 512);
      ds_columns = tiles(kKeys * kQueries / 512);
      shift = carver.floats(kQueries);
      delta = carver.floats(kQueries);
      kept = reinterpret_cast<__mmask16*>(carver.floats(kKeys * kVectors / 2));
      dqt = carver.floats(wide * kQueries);
      q_columns = tiles(kVectors * steps);
      dout_columns = tiles(kVectors * steps);
      q_rows = tiles(kQueries / kTileDepth * columns);
      dout_rows = tiles(kQueries / kTileDepth * columns);
      keys = tiles(2 * key_steps * steps);
      values = tiles(2 * key_steps * steps);
      keys_transposed = tiles(key_steps * columns);
      dk = carver.floats(sums);
      dv = carver.floats(sums);
      if (pass == 0) carver.allocate();
    }
    const int64_t n = key_end - key_begin;
    const bf16 *k = head(a.k, key_begin), *v = head(a.v, key_begin);
    pack_left(k, a.k.ld, n, d, 2 * key_steps, keys);
    pack_left(v, a.v.ld, n, d, 2 * key_steps, values);
    if (want_dq) pack_left_transposed(k, a.k.ld, n, d, key_steps, keys_transposed);
  }
  void part_of(int64_t size, int64_t* begin, int64_t* end) const {
    const int64_t blocks = tiles_of(piece.len, size);
    *begin = blocks * piece.part / piece.parts * size;
    if (piece.part + 1 < piece.parts) *end = blocks * (piece.part + 1) / piece.parts * size;
  }
  bf16* head(const AttentionMatrix& x, int64_t row) const {
    return static_cast<bf16*>(x.data) + (piece.start + row) * x.ld + piece.head * a.head_dim;
  }
  // The first draw of a query's row, in units of rows of draws.
  int64_t draw_row(int64_t query) const { return piece.head * a.tokens + piece.start + query; }
};

// Up to kQueries queries from `first`, `tiles` an even number of tiles.
struct Queries {
  int64_t first, rows, tiles;
};

Queries begin_queries(const Backward& f, int64_t first) {
  constexpr double kLog2e = 1.44269504088896341;
  const int64_t left = f.query_end - first, rows = left < kQueries ? left : kQueries;
  const Queries b{first, rows, 2 * tiles_of(rows, kTileDepth)};
  const bf16 *q = f.head(f.a.q, first), *dout = f.head(f.a.dout, first);
  pack_right_transposed(q, f.a.q.ld, rows, f.d, b.tiles, f.q_columns);
  pack_right_transposed(dout, f.a.dout.ld, rows, f.d, b.tiles, f.dout_columns);
  if (f.want_dkv) {
    pack_right(q, f.a.q.ld, rows, f.d, b.tiles / 2, f.q_rows);
    pack_right(dout, f.a.dout.ld, rows, f.d, b.tiles / 2, f.dout_rows);
  }
  const int64_t statistics = f.draw_row(first);
  for (int64_t i = 0; i < kQueries; ++i) {
    // Beyond the rows 2^(0 - shift) is 0.
    f.shift[i] = i < rows ? static_cast<float>(-kLog2e * f.a.lse[statistics + i]) : -1e30f;
    f.delta[i] = i < rows ? f.a.delta[statistics + i] : 0.0f;
  }
  return b;
}

// One tile of rows by two of columns, into sums First and First + 1.
template <int First>
MOLTIDE_INLINE void score_tiles(const char* left, const char* right, int64_t tile_bytes) {
  tile_zero<First>();
  tile_zero<First + 1>();
  for (int64_t i = 0; i < tile_bytes; i += kTileBytes) {
    tile_load<4>(left + i, 64);
    tile_load<6>(right + i, 64);
    tile_multiply<First, 4, 6>();
    tile_load<7>(right + tile_bytes + i, 64);
    tile_multiply<First + 1, 4, 7>();
  }
}
template <int First>
MOLTIDE_INLINE void store_tiles(float* c) {
  tile_store<First>(c, kQueries * 4);
  tile_store<First + 1>(c + kTile, kQueries * 4);
}

// s = k q^T and dp = v dout^T for two tiles of keys. Sums are stored while the next are added up.
void half_scores(const Backward& f, const Queries& b, int64_t key) {
  const int64_t tile_bytes = f.steps * kTileBytes;
  float* behind = nullptr;
  for (int64_t t = 0; t < kHalf / kTile; ++t) {
    const int64_t at = ((key - f.key_begin) / kTile + t) * tile_bytes;
    for (int64_t i = 0; i < b.tiles; i += 2) {
      const int64_t out = t * kTile * kQueries + i * kTile;
      score_tiles<0>(f.keys + at, f.q_columns + i * tile_bytes, tile_bytes);
      if (behind) store_tiles<2>(behind);
      score_tiles<2>(f.values + at, f.dout_columns + i * tile_bytes, tile_bytes);
      store_tiles<0>(f.s + out);
      behind = f.dp + out;
    }
  }
  store_tiles<2>(behind);
}

// Rows r and r + 1 of dS, 32 queries each, as a row of two right tiles: pairs of keys. Within 128
// bits, so column c of tile t is query pair_column(t, c) of the 32.
MOLTIDE_INLINE int64_t pair_column(int64_t t, int64_t c) {
  return c / 4 * 8 + t * 4 + c % 4;
}
MOLTIDE_INLINE void store_key_pairs(char* to, __m512i even, __m512i odd) {
  _mm512_store_si512(to, _mm512_unpacklo_epi16(even, odd));
  _mm512_store_si512(to + kTileBytes, _mm512_unpackhi_epi16(even, odd));
}

// p and ds of a pair of keys and 32 queries: vectors v and v + 1 of their rows. Keys from n on are
// padding, whose exponentials might overflow.
template <bool kDrop>
MOLTIDE_INLINE void pair_gradients(const Backward& f, vf scale, vf keep, int64_t row, int64_t half,
                                   int64_t n, int v) {
  __m512i packed[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const int64_t at = (row + i) * kQueries + v * W, key = half + row + i;
    vf p[2], ds[2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const float *shift = f.shift + (v + j) * W, *delta = f.delta + (v + j) * W;
      p[j] = exp2_for_bf16(fma(load(f.s + at + j * W), scale, load(shift)));
      vf dp = load(f.dp + at + j * W);
      const __mmask16 kept = kDrop ? f.kept[key * kVectors + v + j] : 0;
      if (kDrop) dp = (vf)_mm512_maskz_mul_ps(kept, (__m512)dp, (__m512)keep);
      ds[j] = p[j] * (dp - load(delta));
      if (kDrop) p[j] = (vf)_mm512_maskz_mov_ps(kept, (__m512)p[j]);
    }
    const __mmask32 valid = key < n ? ~0u : 0u;
    const int64_t to = key / kTile * kLeftTile + v / 2 * kTileBytes + key % kTile * 64;
    packed[i] = _mm512_maskz_mov_epi16(valid, to_bf16_pair(ds[0], ds[1]));
    _mm512_store_si512(f.p + to, _mm512_maskz_mov_epi16(valid, to_bf16_pair(p[0], p[1])));
    _mm512_store_si512(f.ds + to, packed[i]);
  }
  store_key_pairs(f.ds_columns + (half / kTileDepth * kVectors + v) * kTileBytes + row / 2 * 64,
                  packed[0], packed[1]);
}

template <bool kDrop>
void half_gradients(const Backward& f, const Queries& b, int64_t half, int64_t n) {
  const Backward local = f;
  const vf scale = set1(f.a.scale_log2e), keep = set1(1.0f / (1.0f - f.a.dropout));
  for (int64_t row = 0; row < kHalf; row += 2)
    for (int v = 0; v < b.tiles; v += 2) pair_gradients<kDrop>(local, scale, keep, row, half, n, v);
}

// A block of keys and one of queries: everything between scores and sums.
void block(const Backward& f, const Queries& b, int64_t key) {
  const int64_t left = f.key_end - key, n = left < kKeys ? left : kKeys;
  const int64_t halves = tiles_of(n, kHalf), columns = f.wide / kTile;
  const int64_t sums = (key - f.key_begin) * f.wide;
  if (f.a.dropout > 0)
    for_kept(f.a, f.draw_row(b.first), key, n, static_cast<int>(b.tiles),
             [&](int64_t row, int v, vi kept) {
               f.kept[row * kVectors + v] = _mm512_movepi32_mask((__m512i)kept);
             });
  for (int64_t h = 0; h < halves; ++h) {
    half_scores(f, b, key + h * kHalf);
    f.a.dropout > 0 ? half_gradients<true>(f, b, h * kHalf, n)
                    : half_gradients<false>(f, b, h * kHalf, n);
  }
  if (f.want_dkv) {
    const int64_t row_bytes = columns * kTileBytes;
    add_product(f.dv + sums, f.wide, 2 * halves, columns, {f.p, kLeftTile, kTileBytes},
                {f.dout_rows, kTileBytes, row_bytes}, b.tiles / 2, b.first == 0);
    add_product(f.dk + sums, f.wide, 2 * halves, columns, {f.ds, kLeftTile, kTileBytes},
                {f.q_rows, kTileBytes, row_bytes}, b.tiles / 2, b.first == 0);
  }
  if (f.want_dq) {
    const char* k = f.keys_transposed + (key - f.key_begin) / kTileDepth * columns * kTileBytes;
    add_product(f.dqt, kQueries, columns, b.tiles, {k, kTileBytes, columns * kTileBytes},
                {f.ds_columns, kTileBytes, kVectors * kTileBytes}, halves, key == 0);
  }
}

// dq of a block's rows, from the order of columns that pair_column says.
void store_dq(const Backward& f, const Queries& b) {
  const vf scale = set1(f.a.scale);
  for (int64_t t = 0; t < b.tiles; ++t) {
    for (int64_t c = 0; c < f.d; c += W) {
      const __mmask16 mask = first_elements<__mmask16>(f.d - c);
      vf tile[W];
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) tile[i] = scale * load(f.dqt + (c + i) * kQueries + t * kTile);
      transpose(tile);
      for (int i = 0; i < W; ++i) {
        const int64_t row = t / 2 * kTileDepth + pair_column(t % 2, i);
        if (row >= b.rows) continue;
        _mm256_mask_storeu_epi16(f.head(f.a.dq, b.first + row) + c, mask,
                                 (__m256i)_mm512_cvtneps_pbh((__m512)tile[i]));
      }
    }
  }
}

void store_sums(const Backward& f, const float* sums, float factor, const AttentionMatrix& out) {
  const vf scale = set1(factor);
  for (int64_t i = 0; i < f.key_end - f.key_begin; ++i) {
    for (int64_t c = 0; c < f.d; c += W)
      _mm256_mask_storeu_epi16(
          f.head(out, f.key_begin + i) + c, first_elements<__mmask16>(f.d - c),
          (__m256i)_mm512_cvtneps_pbh((__m512)(scale * load(sums + i * f.wide + c))));
  }
}

}  // namespace

void attention_bwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  const Backward f(a, piece);
  amx_begin();
  for (int64_t first = f.query_begin; first < f.query_end; first += kQueries) {
    const Queries b = begin_queries(f, first);
    for (int64_t key = f.key_begin; key < f.key_end; key += kKeys) block(f, b, key);
    if (f.want_dq) store_dq(f, b);
  }
  amx_end();
  if (!f.want_dkv) return;
  store_sums(f, f.dk, a.scale, a.dk);
  store_sums(f, f.dv, 1.0f / (1.0f - a.dropout), a.dv);
}

}  // namespace moltide::MOLTIDE_ISA
