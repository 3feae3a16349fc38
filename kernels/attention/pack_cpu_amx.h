// Rows of (T, H*D) bf16 matrices as AMX tiles, and back. Whatever is beyond the rows or columns
// given is zero, so that padding adds nothing to a product.
#pragma once
#include "attention/bf16_cpu.h"
#include "attention/pack_cpu.h"
#include "device/amx.h"
#include "device/transpose.h"

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE int64_t tiles_of(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}

// Both halves of 8 vectors transposed, 8 x 8 each.
template <int Step>
MOLTIDE_INLINE void transpose_halves_round(vf (&row)[W / 2]) {
  vi low{}, high{};
  for (int j = 0; j < W; ++j) {
    low[j] = (j & Step) ? W + j - Step : j;
    high[j] = (j & Step) ? W + j : j + Step;
  }
#pragma GCC unroll 8
  for (int i = 0; i < W / 2; ++i) {
    if (i & Step) continue;
    const vf a = row[i], b = row[i + Step];
    row[i] = __builtin_shuffle(a, b, low);
    row[i + Step] = __builtin_shuffle(a, b, high);
  }
}
MOLTIDE_INLINE void transpose_halves(vf (&row)[W / 2]) {
  transpose_halves_round<1>(row);
  transpose_halves_round<2>(row);
  transpose_halves_round<4>(row);
}

// Rows are far apart, a page every few: nobody but the packing knows which comes next.
constexpr int kRowsAhead = 24;

// Left tiles of rows, [tile of 16 rows][32 columns][16][32].
static void pack_left(const bf16* rows, int64_t ld, int64_t n, int64_t d, int64_t tiles,
                      char* out) {
  const int64_t steps = tiles_of(d, kTileDepth);
  for (int64_t s = 0; s < steps; ++s, rows += kTileDepth, out += kTileBytes) {
    const __mmask32 mask = first_elements<__mmask32>(d - s * kTileDepth);
    const bf16* from = rows;
    char* to = out;
    for (int64_t t = 0; t < tiles; ++t, to += (steps - 1) * kTileBytes) {
      for (int i = 0; i < kTile; ++i, from += ld, to += 64) {
        const bool there = t * kTile + i < n;
        __builtin_prefetch(from + kRowsAhead * ld);
        const __m512i row = _mm512_maskz_loadu_epi16(there ? mask : 0, there ? from : rows);
        _mm512_store_si512(to, row);
      }
    }
  }
}

// Row of 32 that column i of the first of their two tiles holds, if what is computed of them is
// joined by _mm512_packus_epi32; of the second 4 more.
MOLTIDE_INLINE constexpr int packed_row(int i) {
  return i / 4 * 8 + i % 4;
}

// Right tiles of the transposed rows, products adding over columns:
// [tile of 16 rows][32 columns][16 pairs of columns][16 rows]. kPacked: rows of two tiles as
// packed_row says.
template <bool kPacked = false>
static void pack_right_transposed(const bf16* rows, int64_t ld, int64_t n, int64_t d, int64_t tiles,
                                  char* out) {
  const int64_t steps = tiles_of(d, kTileDepth);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = kPacked ? t / 2 * 2 * kTile + t % 2 * 4 : t * kTile;
    const bf16* from = rows + first * ld;
    const int64_t count = n - first;
    const auto row = [](int i) { return kPacked ? packed_row(i) : i; };
    const auto mask_of = [&](int i, auto mask) { return row(i) < count ? mask : decltype(mask){}; };
    const auto address = [&](int i, int64_t column) {
      return (row(i) < count ? from + row(i) * ld : rows) + column;
    };
    for (int64_t s = 0; s < steps; ++s, out += kTileBytes) {
      const int64_t column = s * kTileDepth;
      if (d - column > kTile) {
        const __mmask32 mask = first_elements<__mmask32>(d - column);
        vf tile[W];
#pragma GCC unroll 16
        for (int i = 0; i < kTile; ++i) {
          __builtin_prefetch(from + column + (kRowsAhead + i) * ld);
          tile[i] = (vf)_mm512_maskz_loadu_epi16(mask_of(i, mask), address(i, column));
        }
        transpose(tile);
#pragma GCC unroll 16
        for (int i = 0; i < kTile; ++i) _mm512_store_si512(out + i * 64, (__m512i)tile[i]);
      } else {
        // Half of a tile: rows i and i + 8 share a vector, whose halves are transposed.
        const __mmask16 mask = first_elements<__mmask16>(d - column);
        vf tile[W / 2];
#pragma GCC unroll 8
        for (int i = 0; i < kTile / 2; ++i) {
          __builtin_prefetch(from + column + (kRowsAhead + i) * ld);
          __builtin_prefetch(from + column + (kRowsAhead + i + 8) * ld);
          const __m256i low = _mm256_maskz_loadu_epi16(mask_of(i, mask), address(i, column));
          const __m256i high =
              _mm256_maskz_loadu_epi16(mask_of(i + 8, mask), address(i + 8, column));
          tile[i] = (vf)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
        }
        transpose_halves(tile);
#pragma GCC unroll 8
        for (int i = 0; i < kTile / 2; ++i) {
          _mm512_store_si512(out + i * 64, (__m512i)tile[i]);
          _mm512_store_si512(out + (i + 8) * 64, _mm512_setzero_si512());
        }
      }
    }
  }
}

// f(r, rows 32 s + 2r and 32 s + 2r + 1 of 16 columns, paired) for 0 <= r < 16.
template <class F>
MOLTIDE_INLINE void for_pairs(const bf16* rows, int64_t ld, int64_t n, int64_t d, int64_t s,
                              int64_t c, F&& f) {
  const __mmask16 mask = first_elements<__mmask16>(d - c * kTile);
  const bf16* from = rows + s * kTileDepth * ld + c * kTile;
  const int64_t count = n - s * kTileDepth;
#pragma GCC unroll 4
  for (int r = 0; r < kTile; ++r, from += 2 * ld) {
    __builtin_prefetch(from + kRowsAhead * ld);
    __builtin_prefetch(from + (kRowsAhead + 1) * ld);
    const bool first = 2 * r < count, second = 2 * r + 1 < count;
    const __m256i low = _mm256_maskz_loadu_epi16(first ? mask : 0, first ? from : rows);
    const __m256i high = _mm256_maskz_loadu_epi16(second ? mask : 0, second ? from + ld : rows);
    f(r, (vu)_mm512_cvtepu16_epi32(low) | (vu)_mm512_cvtepu16_epi32(high) << 16);
  }
}

// Right tiles of the rows, products adding over rows: [32 rows][16 columns][16 pairs of rows][16].
static void pack_right(const bf16* rows, int64_t ld, int64_t n, int64_t d, int64_t steps,
                       char* out) {
  const int64_t wide = tiles_of(d, kTile);
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t c = 0; c < wide; ++c, out += kTileBytes)
      for_pairs(rows, ld, n, d, s, c, [&](int r, vu pairs) MOLTIDE_INLINED {
        _mm512_store_si512(out + r * 64, (__m512i)pairs);
      });
}

// Left tiles of the transposed rows: [32 rows][16 columns][16 columns][32 rows].
MOLTIDE_INLINE void pack_left_transposed(const bf16* rows, int64_t ld, int64_t n, int64_t d,
                                         int64_t steps, char* out) {
  const int64_t wide = tiles_of(d, kTile);
  for (int64_t s = 0; s < steps; ++s) {
    for (int64_t c = 0; c < wide; ++c, out += kTileBytes) {
      vf tile[W];
      for_pairs(rows, ld, n, d, s, c,
                [&](int r, vu pairs) MOLTIDE_INLINED { tile[r] = (vf)pairs; });
      transpose(tile);
#pragma GCC unroll 16
      for (int r = 0; r < kTile; ++r) _mm512_store_si512(out + r * 64, (__m512i)tile[r]);
    }
  }
}

// Tiles in memory, from one to the next and from one step of 32 products to the next.
struct Tiles {
  const char* data;
  int64_t tile_bytes, step_bytes;
  int64_t row_bytes = 64;
};

// R x C tiles of c (+)= left * right.
template <int R, int C>
MOLTIDE_INLINE void add_tiles(float* c, int64_t ld, const Tiles& left, const Tiles& right,
                              int64_t steps, bool first) {
  const int64_t c_bytes = ld * 4;
  float* low = c + kTile * ld;
  if (first) {
    tile_zero<0>();
    if (C == 2) tile_zero<1>();
    if (R == 2) tile_zero<2>();
    if (R == 2 && C == 2) tile_zero<3>();
  } else {
    tile_load<0>(c, c_bytes);
    if (C == 2) tile_load<1>(c + kTile, c_bytes);
    if (R == 2) tile_load<2>(low, c_bytes);
    if (R == 2 && C == 2) tile_load<3>(low + kTile, c_bytes);
  }
  const char *a = left.data, *b = right.data;
  for (int64_t s = 0; s < steps; ++s, a += left.step_bytes, b += right.step_bytes) {
    tile_load<4>(a, left.row_bytes);
    tile_load<6>(b, 64);
    tile_multiply<0, 4, 6>();
    if (C == 2) tile_load<7>(b + right.tile_bytes, 64);
    if (C == 2) tile_multiply<1, 4, 7>();
    if (R == 2) tile_load<5>(a + left.tile_bytes, left.row_bytes);
    if (R == 2) tile_multiply<2, 5, 6>();
    if (R == 2 && C == 2) tile_multiply<3, 5, 7>();
  }
  tile_store<0>(c, c_bytes);
  if (C == 2) tile_store<1>(c + kTile, c_bytes);
  if (R == 2) tile_store<2>(low, c_bytes);
  if (R == 2 && C == 2) tile_store<3>(low + kTile, c_bytes);
}

// c (+)= left * right, rows by columns tiles, steps in ascending order.
static void add_product(float* c, int64_t ld, int64_t rows, int64_t columns, Tiles left,
                        const Tiles& right, int64_t steps, bool first) {
  for (int64_t r = 0; r < rows; r += 2, c += 2 * kTile * ld, left.data += 2 * left.tile_bytes) {
    Tiles b = right;
    float* out = c;
    for (int64_t i = 0; i < columns; i += 2, out += 2 * kTile, b.data += 2 * b.tile_bytes) {
      const bool two_rows = r + 1 < rows, two_columns = i + 1 < columns;
      if (two_rows && two_columns)
        add_tiles<2, 2>(out, ld, left, b, steps, first);
      else if (two_rows)
        add_tiles<2, 1>(out, ld, left, b, steps, first);
      else if (two_columns)
        add_tiles<1, 2>(out, ld, left, b, steps, first);
      else
        add_tiles<1, 1>(out, ld, left, b, steps, first);
    }
  }
}

}  // namespace moltide::MOLTIDE_ISA
