// Forward on AMX tiles, bf16. Keys and values of a head are packed once; per block of queries and
// chunk of keys the scores, their exponentials rounded to bf16, and the product with the values.
// The exponentials are first taken without looking for the largest score (first_pass).
#include <math.h>

#include "attention/pack_cpu_amx.h"
#include "device/philox_simd.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int kRows = 32;   // queries of a block
constexpr int kKeys = 64;   // keys of a chunk
constexpr int kGroup = 64;  // keys of a row taken at a time, as many as its draws come at
// Sums of exponentials outside 2^-kRange .. 2^kRange may have lost an output.
constexpr float kRange = 64.0f;

// Lane i: the sum of row i of 16 by 16 floats, in a fixed order.
template <int Step>
MOLTIDE_INLINE void add_halves(vf (&row)[W]) {
  transpose_round<Step>(row);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (!(i & Step)) row[i] += row[i + Step];
}
MOLTIDE_INLINE vf row_sums(const float* rows) {
  vf row[W];
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) row[i] = load(rows + i * W);
  add_halves<1>(row);
  add_halves<2>(row);
  add_halves<4>(row);
  add_halves<8>(row);
  return row[0];
}

// Lane i: the Euclidean norm of row i of `rows` (up to 16), d values each.
vf norms(const bf16* x, int64_t ld, int64_t rows, int64_t d) {
  alignas(64) float squares[W * W];
  for (int64_t i = 0; i < W; ++i) {
    vf sum = {};
    for (int64_t c = 0; i < rows && c < d; c += W) {
      const __m256i half =
          _mm256_maskz_loadu_epi16(first_elements<__mmask16>(d - c), x + i * ld + c);
      const vf v = (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
      sum = fma(v, v, sum);
    }
    store(squares + i * W, sum);
  }
  return vsqrt(row_sums(squares));
}

struct Forward {
  const AttentionArgs& a;
  const AttentionPiece& piece;
  int64_t first_row, rows;         // of the sequence, that this piece computes
  int64_t d, steps, wide, chunks;  // head dimension in tiles of depth, in whole tiles of columns
  char *q, *keys, *values;         // tiles; of the whole sequence, but q of this piece's rows
  float* s;                        // (kRows, kKeys) scores
  char* p;                         // (kRows, kKeys) bf16
  float* o;                        // (kRows, wide)
  float* shift;                    // (kRows)
  float *sums, *exact;             // (kRows, W), partial sums of rows of p, and before its rounding
  float longest_key;               // norm
  float poison;                    // 0, or NaN where a key is not finite

  Forward(const AttentionArgs& args, const AttentionPiece& part) : a(args), piece(part) {
    const int64_t blocks = tiles_of(piece.len, kRows);
    first_row = blocks * piece.part / piece.parts * kRows;
    rows = blocks * (piece.part + 1) / piece.parts * kRows - first_row;
    if (rows > piece.len - first_row) rows = piece.len - first_row;
    d = a.head_dim;
    steps = tiles_of(d, kTileDepth);
    wide = tiles_of(d, kTile) * kTile;
    chunks = tiles_of(piece.len, kKeys);
    const int64_t key_steps = tiles_of(piece.len, kTileDepth), row_tiles = tiles_of(rows, kTile);
    Carver carver{nullptr};
    const auto tiles = [&](int64_t n) {
      return reinterpret_cast<char*>(carver.floats(n * kTileBytes / 4));
    };
    for (int pass = 0; pass < 2; ++pass) {
      s = carver.floats(kRows * kKeys);
      p = tiles(kRows * kKeys / 512);
      o = carver.floats(kRows * wide);
      shift = carver.floats(kRows);
      sums = carver.floats(kRows * W);
      exact = carver.floats(kRows * W);
      q = tiles(row_tiles * steps);
      keys = tiles(2 * key_steps * steps);
      values = tiles(key_steps * wide / kTile);
      if (pass == 0) carver.allocate();
    }
    const auto pack_keys = a.coarse ? pack_right_transposed<true> : pack_right_transposed<false>;
    pack_keys(head(a.k, 0), a.k.ld, piece.len, d, 2 * key_steps, keys);
    pack_right(head(a.v, 0), a.v.ld, piece.len, d, key_steps, values);
    pack_left(head(a.q, first_row), a.q.ld, rows, d, row_tiles, q);
    clear_sums();
    vf longest = {}, zero = {};
    for (int64_t i = 0; i < piece.len; i += W) {
      const vf norm = norms(head(a.k, i), a.k.ld, piece.len - i, d);
      longest = vmax(longest, norm);
      zero = fma(norm, vf{}, zero);
    }
    longest_key = reduce_max(longest);
    poison = a.coarse ? reduce_add(zero) : 0.0f;
  }
  void clear_sums() const {
    std::memset(sums, 0, kRows * W * sizeof(float));
    std::memset(exact, 0, kRows * W * sizeof(float));
  }
  bf16* head(const AttentionMatrix& x, int64_t row) const {
    return static_cast<bf16*>(x.data) + (piece.start + row) * x.ld + piece.head * a.head_dim;
  }
};

// Up to kRows rows of the piece.
struct Block {
  const char* q;
  int64_t first_row, rows;
};

// One tile of keys against 16 Q queries, into sums First and First + 1.
template <int Q, int First>
MOLTIDE_INLINE void key_tile(const char* q, const char* k, int64_t tile_bytes) {
  tile_zero<First>();
  if (Q == 2) tile_zero<First + 1>();
  for (int64_t i = 0; i < tile_bytes; i += kTileBytes) {
    tile_load<6>(k + i, 64);
    tile_load<4>(q + i, 64);
    tile_multiply<First, 4, 6>();
    if (Q == 1) continue;
    tile_load<5>(q + tile_bytes + i, 64);
    tile_multiply<First + 1, 5, 6>();
  }
}

template <int Q, int First>
MOLTIDE_INLINE void store_key_tile(float* s) {
  tile_store<First>(s, kKeys * 4);
  if (Q == 2) tile_store<First + 1>(s + kTile * kKeys, kKeys * 4);
}

// s = q k^T for 16 Q queries and the keys of chunk `c`. Sums are stored while the next are added
// up: a store that follows its sum at once waits for it, and all tiles with it.
template <int Q>
void chunk_scores(const Forward& f, const char* q, int64_t c, float* s) {
  const int64_t left = f.piece.len - c * kKeys, tile_bytes = f.steps * kTileBytes;
  const int64_t pairs = left < kKeys ? tiles_of(left, kTileDepth) : kKeys / kTileDepth;
  const char* k = f.keys + c * (kKeys / kTile) * tile_bytes;
  for (int64_t pair = 0; pair < pairs; ++pair, k += 2 * tile_bytes, s += 2 * kTile) {
    key_tile<Q, 0>(q, k, tile_bytes);
    if (pair > 0) store_key_tile<Q, 2>(s - kTile);
    key_tile<Q, 2>(q, k + tile_bytes, tile_bytes);
    store_key_tile<Q, 0>(s);
  }
  store_key_tile<Q, 2>(s - kTile);
}

// o (+)= p v
void chunk_output(const Forward& f, int64_t q_tiles, int64_t c) {
  const int64_t left = f.piece.len - c * kKeys, columns = f.wide / kTile;
  const int64_t steps = left < kKeys ? tiles_of(left, kTileDepth) : kKeys / kTileDepth;
  const Tiles p{f.p, kTile * kKeys * 2, 64, kKeys * 2};
  const Tiles v{f.values + c * (kKeys / kTileDepth) * columns * kTileBytes, kTileBytes,
                columns * kTileBytes};
  add_product(f.o, f.wide, q_tiles, columns, p, v, steps, c == 0);
}

// Bit j: key `first_key` + j of the row that draws at `counter` is kept.
MOLTIDE_INLINE uint64_t kept_keys(const AttentionArgs& a, uint64_t counter, int64_t first_key) {
  vf uniform[4];
  philox_uniforms(a.seed, counter + static_cast<uint64_t>(first_key / 4), a.stream, uniform);
  uint64_t kept = 0;
  for (int j = 0; j < 4; ++j)
    kept |= static_cast<uint64_t>(
                _mm512_cmp_ps_mask((__m512)uniform[j], _mm512_set1_ps(a.dropout), _CMP_GE_OQ))
            << (16 * j);
  return kept;
}

// Rows of kGroup scores, n of them keys, become p = 2^(s * scale - shift), all added to the sums;
// then p = 0 where dropped. Outputs are divided by the sum of what multiplies the values, so that a
// key that is alone has weight 1; lse wants the sum before the rounding.
template <int Pairs, bool kTail, bool kDrop, bool kLse>
void fine_exponentials(const Forward& f, const Block& b, int64_t key, const float* s, char* p) {
  const vf scale = set1(f.a.scale_log2e);
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
  const int64_t n = f.piece.len - key, rows = b.rows;
  const float* shift = f.shift;
  float *sums = f.sums, *exact = f.exact;
  __mmask16 mask[2 * Pairs];
  for (int v = 0; v < 2 * Pairs; ++v) mask[v] = first_elements<__mmask16>(n - v * W);
  for (int64_t i = 0; i < rows; ++i, s += kKeys, p += kKeys * 2, sums += W, exact += W) {
    const vf minus_shift = -set1(shift[i]);
    vf e[2 * Pairs];
#pragma GCC unroll 4
    for (int v = 0; v < 2 * Pairs; ++v) {
      e[v] = exp2_for_bf16(fma(load(s + v * W), scale, minus_shift));
      if (kTail) e[v] = (vf)_mm512_maskz_mov_ps(mask[v], (__m512)e[v]);
    }
    if (kLse) {
      vf sum = e[0] + e[1];
      if (Pairs == 2) sum += e[2] + e[3];
      store(exact, load(exact) + sum);
    }
    uint64_t kept = 0;
    if (kDrop) {
      const int64_t row = f.piece.head * f.a.tokens + f.piece.start + b.first_row + i;
      kept = kept_keys(f.a, static_cast<uint64_t>(row) << 18, key);
    }
    __m512 sum = (__m512)load(sums);
#pragma GCC unroll 2
    for (int i = 0; i < Pairs; ++i) {
      __m512i packed = to_bf16_pair(e[2 * i], e[2 * i + 1]);
      sum = _mm512_dpbf16_ps(sum, (__m512bh)packed, ones);
      if (kDrop) packed = _mm512_maskz_mov_epi16(static_cast<__mmask32>(kept >> (32 * i)), packed);
      _mm512_store_si512(p + i * 64, packed);
    }
    store(sums, (vf)sum);
  }
}

// By how many units of a bf16 fractions of 2i / 128 and the next exceed 2^fraction - 1.
alignas(64) constexpr uint8_t kExcess[64] = {
    0,  1,  1,  2,  2,  3,  4,  4,  5,  5,  5,  6,  6,  7,  7,  8,  8,  8,  9,  9,  9,  9,
    10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11, 10, 10, 10,
    10, 10, 9,  9,  9,  8,  8,  8,  7,  7,  6,  6,  5,  5,  4,  3,  3,  2,  1,  1};

// As fine_exponentials, coarse. The bits of a bf16 2^x are 128 x + 127 * 128, rounded, less kExcess
// of the first 6 bits of the fraction. Integers below zero are too small for a bf16.
template <int Pairs, bool kTail>
void coarse_exponentials(const Forward& f, const Block& b, int64_t key, const float* s, char* p) {
  constexpr __mmask64 kLowBytes = 0x5555555555555555;
  const vf scale = set1(f.a.scale_log2e * 128);
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
  const __m512i table = _mm512_load_si512(kExcess);
  const int64_t n = f.piece.len - key, rows = b.rows;
  const float* shift = f.shift;
  float* sums = f.sums;
  __mmask32 mask[Pairs];
  for (int j = 0; j < Pairs; ++j) mask[j] = first_elements<__mmask32>(n - 2 * j * W);
  for (int64_t i = 0; i < rows; ++i, s += kKeys, p += kKeys * 2, sums += W) {
    const vf begin = set1(127.0f * 128 - 128 * shift[i]);
    __m512 sum = (__m512)load(sums);
#pragma GCC unroll 2
    for (int j = 0; j < Pairs; ++j) {
      const auto integers = [&](int v) MOLTIDE_INLINED {
        return _mm512_cvtps_epi32((__m512)fma(load(s + v * W), scale, begin));
      };
      const __m512i low = integers(2 * j), high = integers(2 * j + 1);
      const __m512i bits =
          kTail ? _mm512_maskz_packus_epi32(mask[j], low, high) : _mm512_packus_epi32(low, high);
      const __m512i excess =
          _mm512_maskz_permutexvar_epi8(kLowBytes, _mm512_srli_epi16(bits, 1), table);
      const __m512i packed = _mm512_sub_epi16(bits, excess);
      sum = _mm512_dpbf16_ps(sum, (__m512bh)packed, ones);
      _mm512_store_si512(p + j * 64, packed);
    }
    store(sums, (vf)sum);
  }
}

// How rows of scores become exponentials.
template <bool kDrop, bool kLse>
struct Fine {
  template <int Pairs, bool kTail>
  static void take(const Forward& f, const Block& b, int64_t key, const float* s, char* p) {
    fine_exponentials<Pairs, kTail, kDrop, kLse>(f, b, key, s, p);
  }
};
struct Coarse {
  template <int Pairs, bool kTail>
  static void take(const Forward& f, const Block& b, int64_t key, const float* s, char* p) {
    coarse_exponentials<Pairs, kTail>(f, b, key, s, p);
  }
};

template <class Exponentials>
void chunk_exponentials(const Forward& f, const Block& b, int64_t c, const float* s) {
  char* p = f.p;
  int64_t key = c * kKeys;
  const int64_t end = key + kKeys < f.piece.len ? key + kKeys : f.piece.len;
  for (; key + kGroup <= end; key += kGroup, s += kGroup, p += kGroup * 2)
    Exponentials::template take<2, false>(f, b, key, s, p);
  if (key + kTileDepth < end)
    Exponentials::template take<2, true>(f, b, key, s, p);
  else if (key < end)
    Exponentials::template take<1, true>(f, b, key, s, p);
}

template <int Q>
void chunk_rest(const Forward& f, const Block& b, int64_t c, const float* s) {
  if (f.a.coarse)
    chunk_exponentials<Coarse>(f, b, c, s);
  else if (f.a.dropout > 0)
    chunk_exponentials<Fine<true, true>>(f, b, c, s);
  else if (f.a.lse)
    chunk_exponentials<Fine<false, true>>(f, b, c, s);
  else
    chunk_exponentials<Fine<false, false>>(f, b, c, s);
  chunk_output(f, Q, c);
}

// Which of the scores v * W to (v + 1) * W - 1 of a row are of its first n keys.
MOLTIDE_INLINE __mmask16 scores_of_keys(const Forward& f, int64_t v, int64_t n) {
  vi key;
  for (int i = 0; i < W; ++i) key[i] = f.a.coarse ? packed_row(i) : i;
  const int64_t begin = v / 2 * kTileDepth + v % 2 * (f.a.coarse ? 4 : W);
  return _mm512_cmplt_epi32_mask((__m512i)key, _mm512_set1_epi32(static_cast<int>(n - begin)));
}

// Each row's shift is its first score, or more where the norms allow a score kRange above it: no
// maxima, no rescaling, no overflow. Too large where all scores are far below what the norms allow,
// which finish_block notices.
template <int Q>
void first_pass(const Forward& f, const Block& b) {
  const vf highest = set1(f.longest_key * f.a.scale_log2e * 1.01f);
  for (int64_t c = 0; c < f.chunks; ++c) {
    chunk_scores<Q>(f, b.q, c, f.s);
    for (int64_t i = 0; c == 0 && i < b.rows; i += W) {
      float first[W];
      for (int64_t j = 0; j < W; ++j) first[j] = f.s[(i + j) * kKeys] * f.a.scale_log2e;
      const vf norm = norms(f.head(f.a.q, b.first_row + i), f.a.q.ld, b.rows - i, f.d);
      store(f.shift + i, vmax(fma(norm, highest, set1(-kRange)), load(first)));
    }
    chunk_rest<Q>(f, b, c, f.s);
  }
}

// The online softmax: a row's shift is the largest score so far.
template <int Q>
void careful_pass(const Forward& f, const Block& b) {
  const vf scale = set1(f.a.scale_log2e);
  float* s = f.s;
  for (int64_t c = 0; c < f.chunks; ++c) {
    chunk_scores<Q>(f, b.q, c, s);
    const int64_t left = f.piece.len - c * kKeys, n = left < kKeys ? left : kKeys;
    for (int64_t i = 0; i < b.rows; ++i) {
      vf top = set1(-__builtin_inff());
      for (int64_t j = 0; j < kKeys; j += W) {
        const vf x = scale * load(s + i * kKeys + j);
        top = (vf)_mm512_mask_max_ps((__m512)top, scores_of_keys(f, j / W, n), (__m512)x,
                                     (__m512)top);
      }
      const float before = f.shift[i], now = reduce_max(top);
      if (c > 0 && !(now > before)) continue;
      f.shift[i] = now;
      if (c == 0) continue;
      const vf rescale = exp2_for_bf16(set1(before) - set1(now));
      store(f.sums + i * W, load(f.sums + i * W) * rescale);
      store(f.exact + i * W, load(f.exact + i * W) * rescale);
      for (int64_t j = 0; j < f.wide; j += W) {
        float* o = f.o + i * f.wide + j;
        store(o, load(o) * rescale);
      }
    }
    chunk_rest<Q>(f, b, c, s);
  }
}

// Writes o and lse; false if they are not finite, or if a sum may have lost an output.
bool finish_block(const Forward& f, const Block& b) {
  constexpr double kLn2 = 0.69314718055994531;
  float factor[kRows];
  const vf keep = set1(1.0f / (1.0f - f.a.dropout)), infinity = set1(__builtin_inff());
  __mmask16 bad = 0;
  for (int64_t i = 0; i < b.rows; i += W) {
    const vf sum = row_sums(f.sums + i * W);
    store(factor + i, keep / sum + set1(f.poison));
    bad |= first_elements<__mmask16>(b.rows - i) &
           (_mm512_cmp_ps_mask((__m512)sum, _mm512_set1_ps(0x1p64f), _CMP_NLT_UQ) |
            _mm512_cmp_ps_mask((__m512)sum, _mm512_set1_ps(0x1p-64f), _CMP_NGT_UQ));
  }
  bf16* o = f.head(f.a.o, b.first_row);
  for (int64_t c = 0; c < f.d; c += W) {
    const __mmask16 mask = first_elements<__mmask16>(f.d - c);
    for (int64_t i = 0; i < b.rows; ++i) {
      const vf out = load(f.o + i * f.wide + c) * set1(factor[i]);
      bad |= _mm512_cmp_ps_mask((__m512)vabs(out), (__m512)infinity, _CMP_NLT_UQ);
      _mm256_mask_storeu_epi16(o + i * f.a.o.ld + c, mask,
                               (__m256i)_mm512_cvtneps_pbh((__m512)out));
    }
  }
  if (f.a.lse) {
    float* lse = f.a.lse + f.piece.head * f.a.tokens + f.piece.start + b.first_row;
    for (int64_t i = 0; i < b.rows; i += W) {
      float total[W];
      store(total, row_sums(f.exact + i * W));
      for (int64_t j = 0; j < W && i + j < b.rows; ++j)
        lse[i + j] = static_cast<float>(f.shift[i + j] * kLn2 + logf(total[j]));
    }
  }
  f.clear_sums();
  return bad == 0;
}

template <int Q>
void block(const Forward& f, const Block& b) {
  first_pass<Q>(f, b);
  if (finish_block(f, b)) return;
  careful_pass<Q>(f, b);
  finish_block(f, b);
}

}  // namespace

// Blocks begin at multiples of kRows whatever the piece.
void attention_fwd_piece(const AttentionArgs& a, const AttentionPiece& piece) {
  const Forward f(a, piece);
  amx_begin();
  for (int64_t i = 0; i < f.rows; i += kRows) {
    const int64_t left = f.rows - i;
    const Block b{f.q + i / kTile * f.steps * kTileBytes, f.first_row + i,
                  left < kRows ? left : kRows};
    b.rows > kTile ? block<2>(f, b) : block<1>(f, b);
  }
  amx_end();
}

}  // namespace moltide::MOLTIDE_ISA
