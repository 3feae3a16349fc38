// AMX tiles: 16 rows of 64 products each, signed by signed, 2 x 2 tiles of sums.
#include "device/amx.h"
#include "matmul_i8/matmul_i8_blocks.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int kTileCodes = 64;  // in a row of a tile

// Sums of 32 rows by 1 or 2 panels; with each step of 64 products goes a part of the tile before,
// whose vector instructions run beside the tile instructions.
template <int NP>
MOLTIDE_INLINE void multiply(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                             int64_t steps, int32_t* c, const Pending& pending) {
  const char* low = a + kTile * row_bytes;
  amx_order();
  _tile_zero(0);
  _tile_zero(2);
  if (NP == 2) _tile_zero(1);
  if (NP == 2) _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a, row_bytes);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(5, low, row_bytes);
    _tile_dpbssd(2, 5, 6);
    if (NP == 2) {
      _tile_loadd(7, b + panel_bytes, 64);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(3, 5, 7);
    }
    Pending::run(pending, s, steps);
    a += kTileCodes;
    low += kTileCodes;
    b += kTileBytes;
  }
  _tile_stored(0, c, kSumsLd * 4);
  _tile_stored(2, c + kTile * kSumsLd, kSumsLd * 4);
  if (NP == 2) _tile_stored(1, c + kTile, kSumsLd * 4);
  if (NP == 2) _tile_stored(3, c + kTile * kSumsLd + kTile, kSumsLd * 4);
  amx_order();
}

struct AmxKernel {
  static constexpr int64_t kRows = 2 * kTile;
  static constexpr int kPanels = 2;
  static constexpr int kBytes = 1;
  static constexpr int kWidened = 1;
  static constexpr bool kDirect = true;
  static constexpr bool kOverlap = true;

  static void begin() { amx_begin(); }
  static void end() { amx_end(); }

  MOLTIDE_INLINE void copy_row(const int8_t* from, int64_t k, char* to) {
    std::memcpy(to, from, static_cast<size_t>(k));
  }
  MOLTIDE_INLINE void tile(int panels, const char* a, int64_t row_bytes, const char* b,
                           int64_t panel_bytes, int64_t k, const int32_t*, int32_t* c,
                           const Pending& pending) {
    if (k == 0) {
      Pending::run(pending, 0, 1);
      std::memset(c, 0, kRows * kSumsLd * 4);
    } else if (panels == 2) {
      multiply<2>(a, row_bytes, b, panel_bytes, k / kTileCodes, c, pending);
    } else {
      multiply<1>(a, row_bytes, b, panel_bytes, k / kTileCodes, c, pending);
    }
  }
};

}  // namespace

void matmul_i8_run(const MatmulI8Params& p) {
  i8_blocked<AmxKernel>(p);
}

int64_t matmul_i8_loop(int64_t n, char* sink) {
  AmxKernel::begin();
  _tile_loadd(4, sink, 64);
  _tile_loadd(5, sink, 64);
  _tile_loadd(6, sink, 64);
  _tile_loadd(7, sink, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < n; ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, sink, 64);
  AmxKernel::end();
  return n * 4 * 2 * kTile * kTile * kTileCodes;
}

}  // namespace moltide::MOLTIDE_ISA
