// AMX tiles: 16 rows of 64 products each, signed by signed, 2 x 2 tiles of sums.
#include "device/amx.h"
#include "matmul_i8/matmul_i8_blocks.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int kTileCodes = 64;  // in a row of a tile

// Sums of 32 rows by 1 or 2 panels; between(): what the vector units do meanwhile, every step.
template <int NP, class Between>
MOLTIDE_INLINE void multiply(const char* a, int64_t row_bytes, const char* b, int64_t panel_bytes,
                             int64_t steps, int32_t* c, Between&& between) {
  const char* low = a + kTile * row_bytes;
  amx_order();
  _tile_zero(0);
  _tile_zero(2);
  if (NP == 2) _tile_zero(1);
  if (NP == 2) _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s) {
    _tile_stream_loadd(6, b, 64);
    _tile_loadd(4, a, row_bytes);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(5, low, row_bytes);
    _tile_dpbssd(2, 5, 6);
    if (NP == 2) {
      _tile_stream_loadd(7, b + panel_bytes, 64);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(3, 5, 7);
    }
    between();
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

  static void begin() { amx_begin(); }
  static void end() { amx_end(); }

  MOLTIDE_INLINE void copy_row(const int8_t* from, int64_t k, char* to) {
    std::memcpy(to, from, static_cast<size_t>(k));
  }
};

// The next kRowsAtOnce rows of a tile of whole panels, if there are so many. Unrolled, with few
// addresses: scalar work would keep the products waiting.
template <int kEpilogue, class Y>
MOLTIDE_INLINE void finish_some(I8Unfinished<Y>& u) {
  if (u.rows < kRowsAtOnce) return;
  const vf w[2] = {load(u.w_scale), load(u.w_scale + W)};
  const vf bias[2] = {load(u.bias), load(u.bias + W)};
#pragma GCC unroll 4
  for (int i = 0; i < kRowsAtOnce; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) i8_finish_vector<kEpilogue>(u, i, j * W, w[j], bias[j], Whole{});
  u.sum += kRowsAtOnce * kSumsLd;
  u.x_scale += kRowsAtOnce;
  u.rows -= kRowsAtOnce;
  if (kEpilogue == 3) {
    u.waiting.g += kRowsAtOnce * u.waiting.g_ld;
    u.waiting.amax += kRowsAtOnce * W;
  } else {
    u.y += kRowsAtOnce * u.y_ld;
  }
}
template <int kEpilogue, class Y>
MOLTIDE_INLINE void finish_all(I8Unfinished<Y>& u) {
  if (u.rows > 0) i8_finish_rows<kEpilogue>(u);
  u.rows = 0;
}

// The order of loops in which 32 rows of x stay in the L1 cache while panels kept by the L2 cache
// pass by; a tile's last step is taken in parts between the products of the next one.
struct ByRows {
  template <int kEpilogue, class Y>
  static void run(const MatmulI8Params& p, int64_t row, int64_t rows, int64_t first_panel,
                  int64_t last_panel) {
    constexpr int64_t kRows = AmxKernel::kRows;
    const I8Rows<AmxKernel> block(p, row, rows);
    const int64_t steps = block.k / kTileCodes;
    const int64_t at_once = steps > 0 ? div_up(kRows / kRowsAtOnce, steps) : 0;
    const int64_t group = bigger(kGroupBytes / (2 * block.w_panel + 1), 1) * 2;
    I8Unfinished<Y> last = block.result<Y>(0, 0, 0, block.sums);
    last.rows = 0;
    const auto between = [&] {
      for (int64_t i = 0; i < at_once; ++i) finish_some<kEpilogue>(last);
    };
    int64_t count = 0;
    for (int64_t begin = first_panel; begin < last_panel; begin += group) {
      const int64_t end = smaller(begin + group, last_panel);
      for (int64_t r = 0; r < rows; r += kRows) {
        const char* a = block.x(r);
        const int64_t a_bytes = block.x_bytes(r);
        for (int64_t panel = begin; panel < end; panel += 2, ++count) {
          const char* b = reinterpret_cast<const char*>(p.w) + panel * block.w_panel;
          int32_t* sums = block.sums + count % 2 * kRows * kSumsLd;
          const int panels = panel + 1 < end ? 2 : 1;
          if (panels == 2)
            multiply<2>(a, a_bytes, b, block.w_panel, steps, sums, between);
          else
            multiply<1>(a, a_bytes, b, block.w_panel, steps, sums, between);
          finish_all<kEpilogue>(last);
          last = block.result<Y>(r, panel, panels, sums);
          if (last.cols < 2 * kInt8Panel) finish_all<kEpilogue>(last);
        }
      }
    }
    finish_all<kEpilogue>(last);
    block.write_waiting();
  }
};

}  // namespace

void matmul_i8_run(const MatmulI8Params& p) {
  i8_blocked<AmxKernel, ByRows>(p);
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
