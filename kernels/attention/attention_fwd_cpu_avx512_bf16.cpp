// Forward with bf16 dot products on vectors. A block of queries lies along the lanes as in
// tiles_cpu.h, but each lane of 32 bits holds two numbers of a sum: of scores two columns, of
// outputs two keys. So that exponentials leave the registers of the scores as such pairs, each
// query takes two lanes there, one for either key of a pair.
#include <math.h>

#include "attention/ahead_cpu.h"
#include "attention/dropout_cpu.h"
#include "attention/pack_cpu.h"
#include "attention/pairs_cpu_avx512_bf16.h"

namespace moltide {

namespace avx512 {
void attention_fwd_online(const AttentionArgs& args, const AttentionPiece& piece);
}

namespace MOLTIDE_ISA {
namespace {

constexpr int kTilePairs = 48;           // pairs of keys of a tile
constexpr int kScoreLanes = 2 * kLanes;  // of 32 bits, two for each query
constexpr float kRange = 100.0f;         // exponents of 2 above the shift that sums have room for
constexpr int64_t kMaxBlocks = 1 << 14;  // of the longest sequence

constexpr __mmask16 kFirstKeys = 0x5555;  // of pairs

struct Forward {
  const AttentionArgs& a;
  const AttentionPiece& piece;
  int64_t d, pairs;         // head dimension; pairs of keys, the last one's second may be none
  uint32_t *keys, *values;  // (pairs, D): columns 2c, 2c+1 of either key; either key's column c
  uint32_t* qt;             // (D / 2, kScoreLanes)
  uint32_t* p;              // (kTilePairs, kLanes)
  float* ot;                // (D, kLanes)
  float *shift, *exact;     // (kScoreLanes); sums before the rounding to bf16
  float* sum;               // (kLanes)
  float* mean;              // (D) of the keys
  float radius;             // of a ball around it that holds them all

  Forward(const AttentionArgs& args, const AttentionPiece& part)
      : a(args), piece(part), d(args.head_dim), pairs((part.len + 1) / 2) {
    Carver carver{nullptr};
    const auto words = [&](int64_t n) { return reinterpret_cast<uint32_t*>(carver.floats(n)); };
    for (int pass = 0; pass < 2; ++pass) {
      keys = words(pairs * d);
      values = words(pairs * d);
      qt = words(d / 2 * kScoreLanes);
      p = words(kTilePairs * kLanes);
      ot = carver.floats(d * kLanes);
      shift = carver.floats(kScoreLanes);
      exact = carver.floats(kScoreLanes);
      sum = carver.floats(kLanes);
      mean = carver.floats(d);
      if (pass == 0) carver.allocate();
    }
    pack_keys();
    measure_keys();
    pair_rows(head(a.v, 0), a.v.ld, piece.len, d, pairs, d, values);
  }
  const bf16* head(const AttentionMatrix& x, int64_t row) const {
    return static_cast<const bf16*>(x.data) + (piece.start + row) * x.ld + piece.head * d;
  }
  void pack_keys();
  void measure_keys();
};

// Columns 2c and 2c + 1 of pairs of bf16, apart.
MOLTIDE_INLINE vf even_column(__m512i pairs) {
  return (vf)_mm512_slli_epi32(pairs, 16);
}
MOLTIDE_INLINE vf odd_column(__m512i pairs) {
  return (vf)_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000)));
}

// Lanes of one parity belong to one key, here and in `measure_keys`.
void Forward::pack_keys() {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  for (int64_t c = 0; c < d; c += 2 * W) {
    const __mmask32 mask = first_elements<__mmask32>(d - c);
    const __mmask16 low_mask = first_elements<__mmask16>(d - c);
    const __mmask16 high_mask = first_elements<__mmask16>(d - c - W);
    for (int64_t i = 0; i < pairs; ++i) {
      const bf16* row = head(a.k, 2 * i) + c;
      const bool both = 2 * i + 1 < piece.len;
      const __m512i first = _mm512_maskz_loadu_epi16(mask, row);
      const __m512i second = _mm512_maskz_loadu_epi16(both ? mask : 0, row + (both ? a.k.ld : 0));
      uint32_t* to = keys + i * d + c;
      _mm512_mask_storeu_epi32(to, low_mask, _mm512_permutex2var_epi32(first, low, second));
      _mm512_mask_storeu_epi32(to + W, high_mask, _mm512_permutex2var_epi32(first, high, second));
    }
  }
}

// Their mean, and how far from it the farthest is; of what is not finite the sums will tell.
void Forward::measure_keys() {
  constexpr int kMost = 256 / W;
  const auto pair_columns = [&](int64_t i, int64_t c) MOLTIDE_INLINED {
    return _mm512_maskz_loadu_epi32(first_elements<__mmask16>(d - c), keys + i * d + c);
  };
  vf even_mean[kMost] = {}, odd_mean[kMost] = {};
  for (int64_t i = 0; i < pairs; ++i) {
    for (int64_t c = 0; c < d; c += W) {
      const __m512i x = pair_columns(i, c);
      even_mean[c / W] += even_column(x);
      odd_mean[c / W] += odd_column(x);
    }
  }
  const vf share = set1(1.0f / static_cast<float>(piece.len));
  for (int64_t c = 0; c < d; c += W) {
    const auto whole_mean = [&](vf& x) {
      x = share * (x + (vf)_mm512_permute_ps((__m512)x, 0xb1));
    };
    whole_mean(even_mean[c / W]);
    whole_mean(odd_mean[c / W]);
    for (int64_t j = 0; j < W && c + j < d; j += 2) {
      mean[c + j] = even_mean[c / W][j];
      mean[c + j + 1] = odd_mean[c / W][j];
    }
  }
  vf farthest = {};
  for (int64_t i = 0; i < pairs; ++i) {
    vf squares = {};
    for (int64_t c = 0; c < d; c += W) {
      const __m512i x = pair_columns(i, c);
      const vf u = even_column(x) - even_mean[c / W], v = odd_column(x) - odd_mean[c / W];
      squares = fma(v, v, fma(u, u, squares));
    }
    if (2 * i + 1 == piece.len) squares = (vf)_mm512_maskz_mov_ps(kFirstKeys, (__m512)squares);
    __m512 s = (__m512)squares;
    s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0x4e));
    s = _mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0xb1));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    farthest = vmax(farthest, (vf)s);
  }
  radius = sqrtf(reduce_max(farthest));
}

struct Block {
  int64_t first_row, rows;  // of the sequence
  int vectors;              // of kLanes / W
};

// A row's largest score is at least its first and its mean, and at most what the ball around the
// mean of the keys allows. The shift is the larger of the former, or kRange below the latter: no
// maxima, no rescaling, no overflow. Too large where all scores are far below the bound, which
// finish_block notices.
void begin_block(const Forward& f, const Block& b) {
  const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const vf scale = set1(f.a.scale_log2e);
  const vf reach = set1(f.radius * fabsf(f.a.scale_log2e) * 1.01f);
  for (int v = 0; v < b.vectors; ++v) {
    vf first = {}, center = {}, squares = {};
    const bf16* rows = f.head(f.a.q, b.first_row + v * W);
    for_column_pairs(rows, f.a.q.ld, b.rows - v * W, f.d,
                     [&](int64_t c, __m512i q) MOLTIDE_INLINED {
                       uint32_t* to = f.qt + c * kScoreLanes + v * 2 * W;
                       _mm512_store_si512(to, _mm512_permutexvar_epi32(low, q));
                       _mm512_store_si512(to + W, _mm512_permutexvar_epi32(high, q));
                       squares = add_products(squares, q, q);
                       const int key = static_cast<int>(f.keys[2 * c]);
                       first = add_products(first, q, _mm512_set1_epi32(key));
                       center = fma(even_column(q), set1(f.mean[2 * c]), center);
                       center = fma(odd_column(q), set1(f.mean[2 * c + 1]), center);
                     });
    const vf bound = fma(vsqrt(squares), reach, scale * center - set1(kRange));
    const vf shift = vmax(bound, vmax(scale * center, scale * first));
    float* to = f.shift + v * 2 * W;
    _mm512_store_ps(to, _mm512_permutexvar_ps(low, (__m512)shift));
    _mm512_store_ps(to + W, _mm512_permutexvar_ps(high, (__m512)shift));
  }
  std::memset(f.sum, 0, kLanes * sizeof(float));
  std::memset(f.exact, 0, kScoreLanes * sizeof(float));
}

// R pairs of keys against 8 V queries: p = 2^(scale * score - shift), added to the sums. kLast: the
// second key of the pair is none.
template <int R, int V, bool kExact, bool kLast>
MOLTIDE_APART void tile_rows(const Forward& f, const uint32_t* keys, int first, uint32_t* p) {
  vf c[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[i][v] = vf{};
  }
  const uint32_t* q = f.qt + first * W;
  for (int64_t l = 0; l < f.d; l += 2, q += kScoreLanes) {
    __m512i row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = _mm512_load_si512(q + v * W);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      int64_t both;
      std::memcpy(&both, keys + i * f.d + l, sizeof(both));
      const __m512i k = _mm512_set1_epi64(both);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) c[i][v] = add_products(c[i][v], row[v], k);
    }
  }
  const vf scale = set1(f.a.scale_log2e);
  const __m512i ones = _mm512_set1_epi16(0x3f80);
#pragma GCC unroll 4
  for (int v = 0; v < V; v += 2) {
    const vf low = load(f.shift + (first + v) * W), high = load(f.shift + (first + v + 1) * W);
    float* sum = f.sum + (first + v) / 2 * W;
    float* exact = f.exact + (first + v) * W;
    vf total = load(sum), exact_low = {}, exact_high = {};
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      vf e0 = exp2_for_bf16(fma(c[i][v], scale, -low));
      vf e1 = exp2_for_bf16(fma(c[i][v + 1], scale, -high));
      if (kLast) {
        e0 = (vf)_mm512_maskz_mov_ps(kFirstKeys, (__m512)e0);
        e1 = (vf)_mm512_maskz_mov_ps(kFirstKeys, (__m512)e1);
      }
      if (kExact) {
        exact_low += e0;
        exact_high += e1;
      }
      const __m512i packed = to_bf16_pair(e0, e1);
      total = add_products(total, packed, ones);
      _mm512_store_si512(p + i * kLanes + (first + v) / 2 * W, packed);
    }
    store(sum, total);
    if (kExact) {
      store(exact, load(exact) + exact_low);
      store(exact + W, load(exact + W) + exact_high);
    }
  }
}

// All n pairs of a tile against the 8 V queries from vector `first` on.
template <int V, bool kExact>
void tile_columns(const Forward& f, int64_t pair, int64_t n, int first) {
  const uint32_t* keys = f.keys + pair * f.d;
  uint32_t* p = f.p;
  const bool odd = 2 * (pair + n) > f.piece.len;
  int64_t left = n - odd;
  const auto rows = [&]<int R, bool kLast = false>() MOLTIDE_INLINED {
    tile_rows<R, V, kExact, kLast>(f, keys, first, p);
    keys += R * f.d;
    p += R * kLanes;
    left -= R;
  };
  while (left >= 6) rows.template operator()<6>();
  if (left >= 4) rows.template operator()<4>();
  if (left >= 2) rows.template operator()<2>();
  if (left >= 1) rows.template operator()<1>();
  if (odd) rows.template operator()<1, true>();
}

template <bool kExact>
void tile_scores(const Forward& f, const Block& b, int64_t pair, int64_t n) {
  for (int v = 0; v < 2 * b.vectors; v += 4)
    2 * b.vectors - v >= 4 ? tile_columns<4, kExact>(f, pair, n, v)
                           : tile_columns<2, kExact>(f, pair, n, v);
}

// ot (+)= V^T P
template <int V>
void tile_output(const Forward& f, int64_t pair, int64_t n) {
  add_row_pairs<V>(f.d, f.values + pair * f.d, 1, f.d, f.p, kLanes, n, pair == 0, f.ot, kLanes);
}

// p = 0 where dropped; the sums are those of all.
void tile_drop(const Forward& f, const Block& b, int64_t pair, int64_t n) {
  const int64_t first_draw = f.piece.head * f.a.tokens + f.piece.start + b.first_row;
  for_kept(f.a, first_draw, 2 * pair, 2 * n, b.vectors, [&](int64_t key, int v, vi kept) {
    uint32_t* at = f.p + key / 2 * kLanes + v * W;
    const __m512i other = _mm512_set1_epi32(key % 2 ? 0xffff : static_cast<int>(0xffff0000));
    const __m512i mask = _mm512_or_si512((__m512i)kept, other);
    _mm512_store_si512(at, _mm512_and_si512(_mm512_load_si512(at), mask));
  });
}

// Writes o and lse; false if they are not finite, or if a sum is so small that terms may be
// missing.
bool finish_block(const Forward& f, const Block& b) {
  constexpr double kLn2 = 0.69314718055994531;
  const vf keep = set1(1.0f / (1.0f - f.a.dropout));
  bf16* o = const_cast<bf16*>(f.head(f.a.o, b.first_row));
  __mmask16 bad = 0;
  for (int64_t first = 0; first < b.rows; first += W) {
    const vf sum = load(f.sum + first), factor = keep / sum;
    const int64_t rows = b.rows - first < W ? b.rows - first : W;
    __mmask16 wrong = _mm512_cmp_ps_mask((__m512)sum, _mm512_set1_ps(0x1p120f), _CMP_NLT_UQ) |
                      _mm512_cmp_ps_mask((__m512)sum, _mm512_set1_ps(0x1p-100f), _CMP_NGT_UQ);
    wrong |= store_lanes(f.ot + first, factor, f.d, [&](int64_t i) MOLTIDE_INLINED {
      return i < rows ? o + (first + i) * f.a.o.ld : nullptr;
    });
    bad |= wrong & first_elements<__mmask16>(rows);
  }
  if (f.a.lse) {
    float* lse = f.a.lse + f.piece.head * f.a.tokens + f.piece.start + b.first_row;
    for (int64_t i = 0; i < b.rows; ++i)
      lse[i] =
          static_cast<float>(f.shift[2 * i] * kLn2 + logf(f.exact[2 * i] + f.exact[2 * i + 1]));
  }
  return bad == 0;
}

bool block(const Forward& f, const Block& b) {
  begin_block(f, b);
  for (int64_t pair = 0; pair < f.pairs; pair += kTilePairs) {
    const int64_t n = f.pairs - pair < kTilePairs ? f.pairs - pair : kTilePairs;
    const int64_t keys = f.piece.len - 2 * pair < 2 * n ? f.piece.len - 2 * pair : 2 * n;
    prefetch_after(f.a, f.piece, b.first_row, b.rows, 2 * pair, keys);
    f.a.lse ? tile_scores<true>(f, b, pair, n) : tile_scores<false>(f, b, pair, n);
    if (f.a.dropout > 0) tile_drop(f, b, pair, n);
    if (b.vectors == 1) tile_output<1>(f, pair, n);
    if (b.vectors == 2) tile_output<2>(f, pair, n);
    if (b.vectors == 3) tile_output<3>(f, pair, n);
    if (b.vectors == 4) tile_output<4>(f, pair, n);
  }
  return finish_block(f, b);
}

}  // namespace

void attention_fwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  const Blocks blocks(piece.len);
  const int64_t begin = blocks.count * piece.part / piece.parts;
  const int64_t end = blocks.count * (piece.part + 1) / piece.parts;
  uint64_t again[kMaxBlocks / 64] = {};
  {
    const Forward f(a, piece);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = blocks.first_row(i), left = piece.len - row;
      const int vectors = blocks.width(i);
      const Block b{row, left < vectors * W ? left : vectors * W, vectors};
      if (!block(f, b)) again[i / 64] |= uint64_t{1} << i % 64;
    }
  }
  for (int64_t i = begin; i < end; ++i)
    if (again[i / 64] >> i % 64 & 1)
      avx512::attention_fwd_online(
          a, {piece.task, piece.start, piece.len, piece.head, i, blocks.count});
}

}  // namespace MOLTIDE_ISA
}  // namespace moltide
