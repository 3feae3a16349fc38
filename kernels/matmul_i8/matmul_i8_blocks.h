// The loops around the tile, shared by the instruction sets (each gets its own copy). Sums are
// exact, so blocks may be cut anywhere. A Kernel says: kRows x kPanels of a tile; kBytes an element
// of x takes as the tile reads it, and copy_row, which brings a row there (kDirect: whole tiles are
// read where they lie); kWidened, the bytes a code of W takes, and widen when that is not 1;
// tile(...), which may finish the previous tile on its way (kOverlap).
#pragma once
#include "core/parallel.h"
#include "device/integers.h"
#include "matmul_i8/matmul_i8_epilogue.h"

namespace moltide::MOLTIDE_ISA {

// Rows [row, row + rows) of y, panels [first_panel, last_panel).
template <class Kernel>
void i8_block(const MatmulI8Params& p, int64_t row, int64_t rows, int64_t first_panel,
              int64_t last_panel) {
  constexpr int64_t kHeight = Kernel::kRows, kSums = kHeight * kSumsLd;
  const int64_t k = div_up(p.k, kInt8Pad) * kInt8Pad, w_panel = k * kInt8Panel;
  const int64_t direct = Kernel::kDirect ? rows / kHeight * kHeight : 0;
  const int64_t copied = div_up(rows - direct, kHeight) * kHeight;
  // Off a power of two, so that the rows of a tile fall into different cache sets.
  const int64_t row_bytes = k * Kernel::kBytes + 64;
  char* a_scratch = static_cast<char*>(
      thread_scratch(Scratch::matmul_a, static_cast<size_t>(copied * row_bytes)));
  const bool quantized = p.epilogue == 3;
  const int64_t g_ld = quantized ? div_up(p.n, kInt8Panel) * kInt8Panel : 0;
  const int64_t widened = Kernel::kWidened > 1 ? w_panel * Kernel::kPanels * Kernel::kWidened : 0;
  const int64_t amax_values = quantized ? rows * W : 0;
  char* b_scratch = static_cast<char*>(thread_scratch(
      Scratch::matmul_b,
      static_cast<size_t>(2 * kSums * 4 + widened + (amax_values + rows * g_ld) * 4)));
  int32_t* c = reinterpret_cast<int32_t*>(b_scratch);
  char* wide = b_scratch + 2 * kSums * 4;
  int32_t* amax = reinterpret_cast<int32_t*>(wide + widened);
  float* g = reinterpret_cast<float*>(amax + amax_values);
  if (quantized) std::memset(amax, 0, static_cast<size_t>(amax_values) * 4);

  for (int64_t i = direct; i < rows; ++i)
    Kernel::copy_row(p.x + (row + i) * p.x_ld, k, a_scratch + (i - direct) * row_bytes);
  std::memset(a_scratch + (rows - direct) * row_bytes, 0,
              static_cast<size_t>((direct + copied - rows) * row_bytes));

  Pending pending{&p, choose_finish(p), {}};
  int64_t tiles = 0;
  for (int64_t panel = first_panel; panel < last_panel; panel += Kernel::kPanels) {
    const int panels = static_cast<int>(smaller(Kernel::kPanels, last_panel - panel));
    const char* b = reinterpret_cast<const char*>(p.w) + panel * w_panel;
    if constexpr (Kernel::kWidened > 1) {
      Kernel::widen(b, panels * w_panel, wide);
      b = wide;
    }
    const int64_t col = panel * kInt8Panel;
    for (int64_t r = 0; r < rows; r += kHeight, ++tiles) {
      const char* a = r < direct ? reinterpret_cast<const char*>(p.x) + (row + r) * p.x_ld
                                 : a_scratch + (r - direct) * row_bytes;
      int32_t* sums = c + tiles % 2 * kSums;
      Kernel::tile(panels, a, r < direct ? p.x_ld : row_bytes, b, w_panel * Kernel::kWidened, k,
                   p.w_offset + col, sums, pending);
      pending.sums = {sums,
                      row + r,
                      smaller(kHeight, rows - r),
                      col,
                      smaller(panels * kInt8Panel, p.n - col),
                      g + r * g_ld,
                      g_ld,
                      amax + r * W};
      if (!Kernel::kOverlap) Pending::run(pending, 0, 1);
    }
  }
  if (Kernel::kOverlap) Pending::run(pending, 0, 1);
  for (int64_t i = 0; quantized && i < rows; ++i) {
    vi most;
    std::memcpy(&most, amax + i * W, sizeof(most));
    p.q_scale[row + i] =
        write_codes(g + i * g_ld, p.n, reduce_larger(most), p.q + (row + i) * p.q_ld, p.q_ld);
  }
}

template <class Kernel>
void i8_blocked(const MatmulI8Params& p) {
  constexpr int64_t kInCache = 256 << 10;  // bytes of x, or of a result on its way to int8
  const int64_t panels = div_up(p.n, kInt8Panel);
  const bool quantized = p.epilogue == 3;
  const int threads = num_threads();
  int64_t most = smaller(384, kInCache / bigger(p.k * Kernel::kBytes, 1));
  if (quantized) most = smaller(most, bigger(2 * kInCache / (panels * kInt8Panel * 4), 64));
  most = bigger(most, 32);
  // A row that becomes int8 needs all its columns: threads share rows only.
  if (quantized && threads > 1) most = bigger(smaller(most, p.m / (2 * threads)), 32);
  const int64_t even = div_up(p.m, div_up(p.m, most));
  const int64_t rows = div_up(even, Kernel::kRows) * Kernel::kRows;
  const int64_t row_blocks = div_up(p.m, rows);
  int64_t groups = 1;
  if (!quantized && threads > 1 && row_blocks < 4 * threads)
    groups = smaller(div_up(4 * threads, row_blocks), div_up(panels, Kernel::kPanels));
  const int64_t group = div_up(div_up(panels, groups), Kernel::kPanels) * Kernel::kPanels;
  groups = div_up(panels, group);
  parallel_for(row_blocks * groups, 1, [&](int64_t begin, int64_t end) {
    Kernel::begin();
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t / groups * rows, panel = t % groups * group;
      i8_block<Kernel>(p, row, smaller(rows, p.m - row), panel, smaller(panel + group, panels));
    }
    Kernel::end();
  });
}

}  // namespace moltide::MOLTIDE_ISA
