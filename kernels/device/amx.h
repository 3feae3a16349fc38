// AMX tiles: 16 rows of 64 bytes each; 32 bf16 values on the left, 16 pairs of rows by 16 columns
// on the right, 16 x 16 float32 sums. Registers are named in the instructions: callers number them.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

constexpr int kTile = 16;         // rows of a tile, and its columns of sums
constexpr int kTileDepth = 32;    // bf16 products a tile adds to a sum
constexpr int kTileBytes = 1024;  // of a tile
// Of a matrix product: rows of a tile that are finished beside one step of the next one's products,
// and bytes of packed weights that the L2 cache keeps while the rows of x pass by.
constexpr int kRowsAtOnce = 4;
constexpr int64_t kGroupBytes = 1 << 20;

struct alignas(64) AmxConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles are this thread's from begin to end.
MOLTIDE_INLINE void amx_begin() {
  const AmxConfig config;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}
MOLTIDE_INLINE void amx_end() {
  _tile_release();
}

// The compilers' own forms of the instructions do not say what memory they read and write: between
// vectors and them this keeps the order.
MOLTIDE_INLINE void amx_order() {
  __asm__ volatile("" ::: "memory");
}

// The instructions, by number of register, in that order by themselves.
template <int R>
MOLTIDE_INLINE void tile_zero() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(R));
}
template <int R>
MOLTIDE_INLINE void tile_load(const void* p, int64_t row_bytes) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(row_bytes), "i"(R) : "memory");
}
// The same past the L1 cache, for what is as soon read from the L2 cache again.
template <int R>
MOLTIDE_INLINE void tile_stream(const void* p, int64_t row_bytes) {
  __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(row_bytes), "i"(R) : "memory");
}
template <int R>
MOLTIDE_INLINE void tile_store(void* p, int64_t row_bytes) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(row_bytes), "i"(R) : "memory");
}
// sums += left * right
template <int Sums, int Left, int Right>
MOLTIDE_INLINE void tile_multiply() {
  __asm__ volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" ::"i"(Right), "i"(Left), "i"(Sums));
}

}  // namespace moltide::MOLTIDE_ISA
