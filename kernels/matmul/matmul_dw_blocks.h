// The weight gradient's loops: dw (N,K) += scale * dy^T x, a block of tokens at a time. A block of
// both is packed once for all threads, then each task takes some tiles of dw. A Kernel says:
// kTokens of a block, kStepTokens that one step of the tile takes, kPackTokens that pack_a and
// pack_b take, kTokenBytes of a packed token, kHeight rows (outputs) and kMaxPanels x 16 columns of
// a tile, tile(...).
#pragma once
#include "core/parallel.h"
#include "device/prefetch.h"
#include "matmul/matmul_params.h"
#include "matmul/matmul_tile.h"

namespace moltide::MOLTIDE_ISA {

// Columns summed together.
constexpr int64_t kSumCols = 64;
// Outputs of one task: with a block of tokens, what the L2 cache keeps.
constexpr int64_t kTaskRows = 96;

// db += the block's column sums: tokens in order from zero, then one addition.
template <class T>
MOLTIDE_INLINE void add_column_sums(const char* dy, int64_t ld_bytes, int64_t tokens, int64_t cols,
                                    float* db) {
  constexpr int V = kSumCols / W;
  vf sum[V] = {};
  for (int64_t t = 0; t < tokens; ++t, dy += ld_bytes) {
    const T* row = reinterpret_cast<const T*>(dy);
    if (cols == kSumCols) {
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

// `cols` columns of `tokens` rows as tiles `width` wide, kTokens of a tile apart.
template <class Kernel, int64_t kWidth, class Pack>
MOLTIDE_INLINE void dw_pack(const char* from, int64_t ld_bytes, int64_t tokens, int64_t cols,
                            int64_t tile_bytes, char* to, Pack&& pack) {
  constexpr int64_t kAhead = 8;  // tiles, too far apart for hardware to foresee
  for (int64_t col = 0; col < cols; col += kWidth, to += tile_bytes) {
    prefetch_rows(to + kAhead * tile_bytes, 0, 1, kWidth * tokens * Kernel::kTokenBytes);
    pack(from + col * Kernel::kInBytes, ld_bytes, tokens, smaller(kWidth, cols - col), to);
  }
}

// A block of tokens, packed: dy for all tiles of outputs, x for all panels.
struct DwBlock {
  char* dy;
  char* x;
  int64_t tile_bytes, panel_bytes;  // from one to the next
  int64_t token, tokens;
};

// Tokens [begin, end) of the block. All columns of a few tokens at a time: both matrices are read
// along their rows.
template <class Kernel>
void dw_pack_tokens(const DwParams& p, const DwBlock& block, int64_t begin, int64_t end) {
  constexpr int kIn = Kernel::kInBytes;
  for (int64_t t = begin; t < end; t += Kernel::kPackTokens) {
    const int64_t n = smaller(Kernel::kPackTokens, end - t);
    dw_pack<Kernel, Kernel::kHeight>(
        static_cast<const char*>(p.dy) + (block.token + t) * p.dy_ld * kIn, p.dy_ld * kIn, n, p.n,
        block.tile_bytes, block.dy + t * Kernel::kHeight * Kernel::kTokenBytes, Kernel::pack_a);
    dw_pack<Kernel, kPanel>(static_cast<const char*>(p.x) + (block.token + t) * p.x_ld * kIn,
                            p.x_ld * kIn, n, p.k, block.panel_bytes,
                            block.x + t * kPanel * Kernel::kTokenBytes, Kernel::pack_b);
  }
}

// Tiles of dw in tasks: `rows` rows by one step of panels each, a step's tasks one after another.
struct DwGrid {
  int64_t rows, steps, panels;
};
// Of a task: rows [row, last_row) by `panels` panels of columns from `panel` on.
struct DwTask {
  int64_t row, last_row, panel;
  int panels;
};
template <class Kernel>
MOLTIDE_INLINE DwTask dw_task_of(const DwParams& p, const DwGrid& grid, int64_t task) {
  const int64_t row = task / grid.steps * grid.rows;
  const int64_t panel = task % grid.steps * Kernel::kMaxPanels;
  return {row, smaller(p.n, row + grid.rows), panel,
          static_cast<int>(smaller(Kernel::kMaxPanels, grid.panels - panel))};
}

template <class Kernel>
void dw_task(const DwParams& p, const DwBlock& block, const DwTask& t) {
  constexpr int64_t kCols = Kernel::kMaxPanels * kPanel;
  alignas(64) float c[Kernel::kHeight * kCols];
  const int64_t steps = div_up(block.tokens, Kernel::kStepTokens);
  const int64_t col = t.panel * kPanel, cols = smaller(t.panels * kPanel, p.k - col);
  // Every tile asks for its share of the next task's panels.
  const int64_t share = t.panels * block.panel_bytes / div_up(t.last_row - t.row, Kernel::kHeight);
  Stream next{block.x + (t.panel + t.panels) * block.panel_bytes, share / div_up(steps, 4)};
  for (int64_t r = t.row; r < t.last_row; r += Kernel::kHeight, next.at += share) {
    const int64_t rows = smaller(Kernel::kHeight, t.last_row - r);
    float* dw = p.dw + r * p.dw_ld + col;
    // dy's tiles follow one another in memory: nobody need ask for them.
    const RowStream results{reinterpret_cast<const char*>(dw), p.dw_ld * 4, rows,
                            div_up(cols * 4, 64)};
    Kernel::tile(t.panels, block.dy + r / Kernel::kHeight * block.tile_bytes,
                 block.x + t.panel * block.panel_bytes, block.panel_bytes, steps, c, kCols,
                 Ahead{next, {next.at, 0}, results});
    add_scaled(c, kCols, p.scale, rows, cols, dw, p.dw_ld);
  }
}

template <class Kernel>
void dw_tasks(const DwParams& p, const DwBlock& block, const DwGrid& grid, int64_t begin,
              int64_t end) {
  for (int64_t task = begin; task < end; ++task)
    dw_task<Kernel>(p, block, dw_task_of<Kernel>(p, grid, task));
}

// tasks(p, block, grid, begin, end): dw_tasks or another way through them.
template <class Kernel, class Tasks>
void dw_blocked(const DwParams& p, Tasks&& tasks) {
  constexpr int kIn = Kernel::kInBytes;
  const int64_t tiles = div_up(p.n, Kernel::kHeight), panels = div_up(p.k, kPanel);
  const int64_t steps = div_up(panels, Kernel::kMaxPanels);
  // Enough tasks for the threads; what a value of dw is computed from does not change with it.
  int64_t height = smaller(tiles, kTaskRows / Kernel::kHeight);
  while (height > 1 && div_up(tiles, height) * steps < even_load_tasks())
    height = div_up(height, 2);
  const int64_t groups = div_up(tiles, height), rows = height * Kernel::kHeight;
  // Blocks of equal length, as far as pairs and tiles of tokens allow.
  const int64_t even = div_up(p.m, div_up(p.m, Kernel::kTokens));
  const int64_t most = div_up(even, kBf16Pad) * kBf16Pad;
  DwBlock block;
  block.tile_bytes = Kernel::kHeight * most * Kernel::kTokenBytes;
  block.panel_bytes = kPanel * most * Kernel::kTokenBytes;
  // One allocation: either may be the larger one, from product to product.
  const int64_t x_bytes = panels * block.panel_bytes;
  block.x = static_cast<char*>(
      thread_scratch(Scratch::matmul_a, static_cast<size_t>(x_bytes + tiles * block.tile_bytes)));
  block.dy = block.x + x_bytes;
  for (block.token = 0; block.token < p.m; block.token += most) {
    block.tokens = smaller(most, p.m - block.token);
    parallel_for(div_up(block.tokens, kBf16Pad), 1, [&](int64_t begin, int64_t end) {
      dw_pack_tokens<Kernel>(p, block, begin * kBf16Pad, smaller(end * kBf16Pad, block.tokens));
    });
    if (p.db) {
      const char* dy = static_cast<const char*>(p.dy) + block.token * p.dy_ld * kIn;
      parallel_for(div_up(p.n, kSumCols), 1, [&](int64_t begin, int64_t end) {
        for (int64_t col = begin * kSumCols; col < smaller(end * kSumCols, p.n); col += kSumCols)
          add_column_sums<typename Kernel::In>(dy + col * kIn, p.dy_ld * kIn, block.tokens,
                                               smaller(kSumCols, p.n - col), p.db + col);
      });
    }
    parallel_for(groups * steps, 1, [&](int64_t begin, int64_t end) {
      Kernel::begin();
      tasks(p, block, DwGrid{rows, steps, panels}, begin, end);
      Kernel::end();
    });
  }
}
template <class Kernel>
void dw_blocked(const DwParams& p) {
  dw_blocked<Kernel>(p, dw_tasks<Kernel>);
}

}  // namespace moltide::MOLTIDE_ISA
