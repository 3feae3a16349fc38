// The weight gradient's loops: dw (N,K) += scale * dy^T x, a block of tokens at a time. dy's block
// is packed once for all threads; each task packs the panels of x it needs. A Kernel says: kTokens
// of a block, kStepTokens that one step of the tile takes, kTokenBytes of a packed token, kHeight
// rows (outputs) and kMaxPanels x 16 columns of a tile, pack_a, pack_b, tile.
#pragma once
#include "core/parallel.h"
#include "matmul/matmul_params.h"
#include "matmul/matmul_tile.h"

namespace moltide::MOLTIDE_ISA {

// Outputs packed together: a multiple of the height of every tile (32, 8, 6, 2).
constexpr int64_t kPackCols = 96;
// Outputs of one task: with a block of tokens, what the L2 cache keeps.
constexpr int64_t kTaskRows = 384;

// db += the block's column sums: tokens in order from zero, then one addition.
template <class T>
MOLTIDE_INLINE void add_column_sums(const char* dy, int64_t ld_bytes, int64_t tokens, int64_t cols,
                                    float* db) {
  constexpr int V = kPackCols / W;
  vf sum[V] = {};
  for (int64_t t = 0; t < tokens; ++t, dy += ld_bytes) {
    const T* row = reinterpret_cast<const T*>(dy);
    if (cols == kPackCols) {
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j) sum[j] = sum[j] + load(row + j * W);
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < V; ++j)
        if (j * W < cols) sum[j] = sum[j] + load_n(row + j * W, smaller(W, cols - j * W));
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < V; ++j) {
    const int64_t n = smaller(W, cols - j * W);
    if (n > 0) store_n(db + j * W, load_n(db + j * W, n) + sum[j], n);
  }
}

// dw += scale * c over rows x cols.
MOLTIDE_INLINE void add_scaled(const float* c, int64_t ldc, float scale, int64_t rows, int64_t cols,
                               float* dw, int64_t ld) {
  const vf s = set1(scale);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; j += W) {
      float* to = dw + i * ld + j;
      const vf v = load(c + i * ldc + j);
      if (cols - j >= W)
        store(to, fma(s, v, load(to)));
      else
        store_n(to, fma(s, v, load_n(to, cols - j)), cols - j);
    }
}

template <class Kernel>
void dw_pack_dy(const DwParams& p, int64_t token, int64_t tokens, int64_t unit, int64_t tile_bytes,
                char* packed) {
  constexpr int kIn = Kernel::kInBytes;
  const int64_t ld = p.dy_ld * kIn;
  const int64_t col = unit * kPackCols, cols = smaller(kPackCols, p.n - col);
  const char* dy = static_cast<const char*>(p.dy) + token * ld + col * kIn;
  if (p.db) add_column_sums<typename Kernel::In>(dy, ld, tokens, cols, p.db + col);
  // A few tokens of all tiles before the next few: their cache lines are shared between tiles.
  for (int64_t t = 0; t < tokens; t += kBf16Pad)
    for (int64_t i = 0; i < kPackCols && i < cols; i += Kernel::kHeight)
      Kernel::pack_a(dy + t * ld + i * kIn, ld, smaller(kBf16Pad, tokens - t),
                     smaller(Kernel::kHeight, cols - i),
                     packed + (col + i) / Kernel::kHeight * tile_bytes +
                         t * Kernel::kHeight * Kernel::kTokenBytes);
}

// dw's rows [row, last_row) by `panels` panels of columns from `panel` on.
template <class Kernel>
void dw_task(const DwParams& p, int64_t token, int64_t tokens, int64_t row, int64_t last_row,
             int64_t panel, int panels, int64_t tile_bytes, const char* packed) {
  constexpr int kIn = Kernel::kInBytes;
  constexpr int64_t kCols = Kernel::kMaxPanels * kPanel;
  const int64_t padded = div_up(tokens, Kernel::kStepTokens) * Kernel::kStepTokens;
  const int64_t b_panel = padded * kPanel * Kernel::kTokenBytes;
  const int64_t col = panel * kPanel, cols = smaller(panels * kPanel, p.k - col);
  char* scratch = static_cast<char*>(thread_scratch(
      Scratch::matmul_b,
      static_cast<size_t>(Kernel::kMaxPanels * b_panel + Kernel::kHeight * kCols * 4)));
  float* c = reinterpret_cast<float*>(scratch + Kernel::kMaxPanels * b_panel);
  const int64_t ld = p.x_ld * kIn;
  const char* x = static_cast<const char*>(p.x) + token * ld + col * kIn;
  for (int64_t t = 0; t < tokens; t += kBf16Pad)
    for (int j = 0; j < panels; ++j)
      Kernel::pack_b(x + t * ld + j * kPanel * kIn, ld, smaller(kBf16Pad, tokens - t),
                     smaller(kPanel, cols - j * kPanel),
                     scratch + j * b_panel + t * kPanel * Kernel::kTokenBytes);
  for (int64_t r = row; r < last_row; r += Kernel::kHeight) {
    Kernel::tile(panels, packed + r / Kernel::kHeight * tile_bytes, scratch, b_panel, padded, c,
                 kCols);
    add_scaled(c, kCols, p.scale, smaller(Kernel::kHeight, last_row - r), cols,
               p.dw + r * p.dw_ld + col, p.dw_ld);
  }
}

template <class Kernel>
void dw_blocked(const DwParams& p) {
  const int64_t units = div_up(p.n, kPackCols);
  const int64_t panels = div_up(p.k, kPanel);
  const int64_t steps = div_up(panels, Kernel::kMaxPanels);
  // Enough tasks for the threads; what a value of dw is computed from does not change with it.
  int64_t task_units = smaller(units, kTaskRows / kPackCols);
  const int threads = num_threads();
  if (threads > 1)
    while (task_units > 1 && div_up(units, task_units) * steps < 4 * threads)
      task_units = div_up(task_units, 2);
  const int64_t groups = div_up(units, task_units);
  const int64_t most = smaller(div_up(p.m, kBf16Pad) * kBf16Pad, Kernel::kTokens);
  char* packed = static_cast<char*>(thread_scratch(
      Scratch::matmul_a, static_cast<size_t>(units * kPackCols * most * Kernel::kTokenBytes)));
  for (int64_t token = 0; token < p.m; token += Kernel::kTokens) {
    const int64_t tokens = smaller(Kernel::kTokens, p.m - token);
    const int64_t tile_bytes = Kernel::kHeight * most * Kernel::kTokenBytes;
    parallel_for(units, 1, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit)
        dw_pack_dy<Kernel>(p, token, tokens, unit, tile_bytes, packed);
    });
    parallel_for(groups * steps, 1, [&](int64_t begin, int64_t end) {
      Kernel::begin();
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task / steps * task_units * kPackCols;
        const int64_t panel = task % steps * Kernel::kMaxPanels;
        dw_task<Kernel>(p, token, tokens, row, smaller(p.n, row + task_units * kPackCols), panel,
                        static_cast<int>(smaller(Kernel::kMaxPanels, panels - panel)), tile_bytes,
                        packed);
      }
      Kernel::end();
    });
  }
}

}  // namespace moltide::MOLTIDE_ISA
