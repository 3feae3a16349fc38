// bf16 on AMX tiles: 16 rows of 32 products each, 2 x 2 tiles of sums.
#include "device/prefetch.h"
#include "device/transpose.h"
#include "matmul/matmul_amx_rows.h"
#include "matmul/matmul_dw_blocks.h"
#include "matmul/matmul_vector.h"

namespace moltide::MOLTIDE_ISA {
namespace {

template <int R, bool kStream>
MOLTIDE_INLINE void read_tile(const char* from, int64_t row_bytes) {
  if constexpr (kStream)
    tile_stream<R>(from, row_bytes);
  else
    tile_load<R>(from, row_bytes);
}

// Sums of 32 rows by 1 or 2 panels over `steps` of 32 products. Each step adds a tile's own sums to
// the running ones: where the steps begin along k decides the bits, so it is always at multiples of
// 32.
// between(): what the vector units do meanwhile, a part of it every step. What is streamed, b or a,
// is not kept in the L1 cache, where the other one lies.
enum class Streamed { a, b };
template <int NP, Streamed kStreamed, class Between>
MOLTIDE_INLINE void multiply(const char* a, const char* a_low, int64_t row_bytes, int64_t a_step,
                             const char* b, int64_t panel_bytes, int64_t steps, float* c,
                             int64_t ldc, bool first, Between&& between) {
  const int64_t c_bytes = ldc * 4;
  if (first) {
    tile_zero<0>();
    tile_zero<2>();
    if (NP == 2) tile_zero<1>();
    if (NP == 2) tile_zero<3>();
  } else {
    tile_load<0>(c, c_bytes);
    tile_load<2>(c + kTile * ldc, c_bytes);
    if (NP == 2) tile_load<1>(c + kTile, c_bytes);
    if (NP == 2) tile_load<3>(c + kTile * ldc + kTile, c_bytes);
  }
  for (int64_t s = 0; s < steps; ++s) {
    read_tile<6, kStreamed == Streamed::b>(b, 64);
    read_tile<4, kStreamed == Streamed::a>(a, row_bytes);
    tile_multiply<0, 4, 6>();
    read_tile<5, kStreamed == Streamed::a>(a_low, row_bytes);
    tile_multiply<2, 5, 6>();
    if (NP == 2) {
      read_tile<7, kStreamed == Streamed::b>(b + panel_bytes, 64);
      tile_multiply<1, 4, 7>();
      tile_multiply<3, 5, 7>();
    }
    between();
    a += a_step;
    a_low += a_step;
    b += kTileBytes;
  }
  tile_store<0>(c, c_bytes);
  tile_store<2>(c + kTile * ldc, c_bytes);
  if (NP == 2) tile_store<1>(c + kTile, c_bytes);
  if (NP == 2) tile_store<3>(c + kTile * ldc + kTile, c_bytes);
}

struct AmxKernel {
  using In = bf16;
  static constexpr int kInBytes = 2;
  static constexpr bool kConvert = false;
  using Rows = RowsAsTheyAre<kInBytes>;
  static constexpr int kPad = kTileDepth;
  static constexpr int kMaxPanels = 2;
  static constexpr int kRowAlign = 2 * kTile;
  static constexpr int64_t kBlockRows = 384;
  static constexpr int64_t kInnerK = 640;
  static constexpr int64_t kBlockK = INT64_MAX;

  static void begin() { amx_begin(); }
  static void end() { amx_end(); }

  template <class Between>
  MOLTIDE_INLINE void tile(int panels, const char* a, int64_t row_bytes, const char* b,
                           int64_t panel_bytes, int64_t k, float* c, int64_t ldc, bool first,
                           Between&& between) {
    const char* low = a + kTile * row_bytes;
    const int64_t steps = div_up(k, kTileDepth);
    if (panels == 2)
      multiply<2, Streamed::b>(a, low, row_bytes, 64, b, panel_bytes, steps, c, ldc, first,
                               between);
    else
      multiply<1, Streamed::b>(a, low, row_bytes, 64, b, panel_bytes, steps, c, ldc, first,
                               between);
  }
};

// Tokens t and t + 1 of 16 columns, paired value by value; zeros beyond tokens and cols.
MOLTIDE_INLINE vu load_pairs(const char* from, int64_t ld_bytes, int64_t t, int64_t tokens,
                             int64_t cols) {
  const auto row = [&](int64_t i) {
    const __mmask16 mask = static_cast<__mmask16>(i < tokens ? (1u << smaller(cols, 16)) - 1 : 0u);
    const char* at = mask ? from + i * ld_bytes : from;
    return (vu)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at));
  };
  return row(t) | row(t + 1) << 16;
}

struct AmxDwKernel {
  using In = bf16;
  static constexpr int kInBytes = 2;
  static constexpr int64_t kTokens = 512;
  static constexpr int64_t kPackTokens = kTileDepth;
  static constexpr int kStepTokens = kTileDepth;
  static constexpr int kTokenBytes = 2;
  static constexpr int kHeight = 2 * kTile;
  static constexpr int kMaxPanels = 2;

  static void begin() { amx_begin(); }
  static void end() { amx_end(); }

  // dy^T: a tile's row is one output, so pairs of tokens are transposed.
  MOLTIDE_INLINE void pack_a(const char* dy, int64_t ld_bytes, int64_t tokens, int64_t cols,
                             char* to) {
    for (int half = 0; half < 2; ++half) {
      vf row[W] = {};
      const int64_t n = cols - half * kTile;
      if (n > 0) {
#pragma GCC unroll 16
        for (int s = 0; s < kTile; ++s)
          row[s] = (vf)load_pairs(dy + half * kTile * 2, ld_bytes, 2 * s, tokens, n);
        transpose(row);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kTile; ++i) std::memcpy(to + half * kTileBytes + i * 64, &row[i], 64);
    }
  }
  MOLTIDE_INLINE void pack_b(const char* x, int64_t ld_bytes, int64_t tokens, int64_t cols,
                             char* to) {
    for (int s = 0; s < kTile; ++s) {
      const vu pairs = load_pairs(x, ld_bytes, 2 * s, tokens, cols);
      std::memcpy(to + s * 64, &pairs, 64);
    }
  }
  template <class Between>
  MOLTIDE_INLINE void tile(int panels, const char* a, const char* b, int64_t panel_bytes,
                           int64_t steps, float* c, int64_t ldc, Between&& between) {
    if (panels == 2)
      multiply<2, Streamed::a>(a, a + kTileBytes, 64, 2 * kTileBytes, b, panel_bytes, steps, c, ldc,
                               true, between);
    else
      multiply<1, Streamed::a>(a, a + kTileBytes, 64, 2 * kTileBytes, b, panel_bytes, steps, c, ldc,
                               true, between);
  }
};

// The tile before, rows of which are still to be added to dw.
struct Unadded {
  const float* sum;
  float* dw;
  int64_t rows, cols;
};
constexpr int kDwCols = AmxDwKernel::kMaxPanels * kPanel;

// The next kRowsAtOnce rows of a whole tile, if there are so many.
MOLTIDE_INLINE void add_some(Unadded& u, vf scale, int64_t ld) {
  if (u.rows < kRowsAtOnce || u.cols < kDwCols) return;
#pragma GCC unroll 4
  for (int i = 0; i < kRowsAtOnce; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kDwCols; j += W) {
      float* to = u.dw + i * ld + j;
      store(to, fma(scale, load(u.sum + i * kDwCols + j), load(to)));
    }
  u.sum += kRowsAtOnce * kDwCols;
  u.dw += kRowsAtOnce * ld;
  u.rows -= kRowsAtOnce;
}

// A tile's sums are added to dw between the products of the next one.
void dw_tasks_beside(const DwParams& p, const DwBlock& block, const DwGrid& grid, int64_t begin,
                     int64_t end) {
  constexpr int kHeight = AmxDwKernel::kHeight;
  alignas(64) float sums[2][kHeight * kDwCols];
  const int64_t steps = div_up(block.tokens, kTileDepth);
  const vf scale = set1(p.scale);
  Unadded last{sums[0], p.dw, 0, 0};
  int64_t count = 0;
  for (int64_t task = begin; task < end; ++task) {
    const DwTask t = dw_task_of<AmxDwKernel>(p, grid, task);
    const int64_t col = t.panel * kPanel, cols = smaller(t.panels * kPanel, p.k - col);
    for (int64_t r = t.row; r < t.last_row; r += kHeight, ++count) {
      const int64_t rows = smaller(kHeight, t.last_row - r);
      float* dw = p.dw + r * p.dw_ld + col;
      prefetch_rows(dw, p.dw_ld * 4, rows, cols * 4);
      AmxDwKernel::tile(t.panels, block.dy + r / kHeight * block.tile_bytes,
                        block.x + t.panel * block.panel_bytes, block.panel_bytes, steps,
                        sums[count % 2], kDwCols, [&] { add_some(last, scale, p.dw_ld); });
      add_scaled(last.sum, kDwCols, p.scale, last.rows, last.cols, last.dw, p.dw_ld);
      last = {sums[count % 2], dw, rows, cols};
    }
  }
  add_scaled(last.sum, kDwCols, p.scale, last.rows, last.cols, last.dw, p.dw_ld);
}

}  // namespace

void matmul_run(const MatmulParams& p) {
  if (p.y_bf16)
    matmul_by_rows<AmxKernel, bf16>(p);
  else
    matmul_by_rows<AmxKernel, float>(p);
}

void matmul_dw_run(const DwParams& p) {
  dw_blocked<AmxDwKernel>(p, dw_tasks_beside);
}

int64_t matmul_peak_loop(int64_t n, float* sink) {
  amx_begin();
  _tile_loadd(4, sink, 64);
  _tile_loadd(5, sink, 64);
  _tile_loadd(6, sink, 64);
  _tile_loadd(7, sink, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < n; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sink, 64);
  amx_end();
  return n * 4 * 2 * kTile * kTile * kTileDepth;
}

}  // namespace moltide::MOLTIDE_ISA
