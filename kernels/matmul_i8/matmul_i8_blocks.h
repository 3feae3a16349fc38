// The loops around the tile, shared by the instruction sets (each gets its own copy). Sums are
// exact, so blocks may be cut anywhere. A Kernel says: kRows x kPanels of a tile; kBytes an element
// of x takes as the tile reads it, and copy_row, which brings a row there (kDirect: whole tiles are
// read where they lie); kWidened, the bytes a code of W takes, and widen when that is not 1;
// tile(...).
#pragma once
#include "core/parallel.h"
#include "device/integers.h"
#include "device/prefetch.h"
#include "matmul_i8/matmul_i8_epilogue.h"

namespace moltide::MOLTIDE_ISA {

// Rows [row, row + rows) of x as the tile reads them, and the scratch of their results.
template <class Kernel>
struct I8Rows {
  const MatmulI8Params& p;
  int64_t row, rows;
  int64_t k, w_panel;  // padded; bytes of a panel of W
  int64_t direct, direct_bytes, copied_bytes;
  char* copied;   // rows from `direct` on
  int32_t* sums;  // two tiles
  char* wide;
  Waiting waiting{nullptr, 0, nullptr};

  I8Rows(const MatmulI8Params& params, int64_t first, int64_t count)
      : p(params), row(first), rows(count) {
    constexpr int64_t kHeight = Kernel::kRows, kSums = 2 * kHeight * kSumsLd;
    k = div_up(p.k, kInt8Pad) * kInt8Pad;
    w_panel = k * kInt8Panel;
    direct = Kernel::kDirect ? rows / kHeight * kHeight : 0;
    direct_bytes = p.x_ld;
    // Off a power of two, so that the rows of a tile fall into different cache sets.
    copied_bytes = k * Kernel::kBytes + 64;
    const int64_t copies = div_up(rows - direct, kHeight) * kHeight;
    copied = static_cast<char*>(
        thread_scratch(Scratch::matmul_a, static_cast<size_t>(copies * copied_bytes)));
    const bool quantized = p.epilogue == 3;
    const int64_t g_ld = quantized ? div_up(p.n, kInt8Panel) * kInt8Panel : 0;
    const int64_t widened = Kernel::kWidened > 1 ? w_panel * Kernel::kPanels * Kernel::kWidened : 0;
    const int64_t amax = quantized ? rows * W : 0;
    char* scratch = static_cast<char*>(thread_scratch(
        Scratch::matmul_b, static_cast<size_t>(kSums * 4 + widened + (amax + rows * g_ld) * 4)));
    sums = reinterpret_cast<int32_t*>(scratch);
    wide = scratch + kSums * 4;
    if (quantized) {
      waiting.amax = reinterpret_cast<int32_t*>(wide + widened);
      waiting.g = reinterpret_cast<float*>(waiting.amax + amax);
      waiting.g_ld = g_ld;
      std::memset(waiting.amax, 0, static_cast<size_t>(amax) * 4);
    }
    for (int64_t i = direct; i < rows; ++i)
      Kernel::copy_row(p.x + (row + i) * p.x_ld, k, copied + (i - direct) * copied_bytes);
    std::memset(copied + (rows - direct) * copied_bytes, 0,
                static_cast<size_t>((direct + copies - rows) * copied_bytes));
  }
  const char* x(int64_t r) const {
    return r < direct ? reinterpret_cast<const char*>(p.x) + (row + r) * direct_bytes
                      : copied + (r - direct) * copied_bytes;
  }
  int64_t x_bytes(int64_t r) const { return r < direct ? direct_bytes : copied_bytes; }
  // What the sums of rows from r on and of panels from `panel` on become.
  template <class Y>
  I8Unfinished<Y> result(int64_t r, int64_t panel, int64_t panels, const int32_t* sum) const {
    Waiting at = waiting;
    if (at.g) at.g += r * at.g_ld;
    if (at.g) at.amax += r * W;
    const int64_t col = panel * kInt8Panel;
    return i8_unfinished<Y>(p, row + r, smaller(Kernel::kRows, rows - r), col,
                            smaller(panels * kInt8Panel, p.n - col), sum, at);
  }
  void write_waiting() const {
    for (int64_t i = 0; waiting.g && i < rows; ++i) {
      vi most;
      std::memcpy(&most, waiting.amax + i * W, sizeof(most));
      p.q_scale[row + i] = write_codes(waiting.g + i * waiting.g_ld, p.n, reduce_larger(most),
                                       p.q + (row + i) * p.q_ld, p.q_ld);
    }
  }
};

// The order of loops in which a few panels stay in the L1 cache while the rows pass by.
template <class Kernel>
struct ByPanels {
  // Rows [row, row + rows) of y, panels [first_panel, last_panel).
  template <int kEpilogue, class Y>
  static void run(const MatmulI8Params& p, int64_t row, int64_t rows, int64_t first_panel,
                  int64_t last_panel) {
    constexpr int64_t kYBytes = sizeof(Y);
    const I8Rows<Kernel> block(p, row, rows);
    for (int64_t panel = first_panel; panel < last_panel; panel += Kernel::kPanels) {
      const int panels = static_cast<int>(smaller(Kernel::kPanels, last_panel - panel));
      const char* b = reinterpret_cast<const char*>(p.w) + panel * block.w_panel;
      if constexpr (Kernel::kWidened > 1) {
        Kernel::widen(b, panels * block.w_panel, block.wide);
        b = block.wide;
      }
      for (int64_t r = 0; r < rows; r += Kernel::kRows) {
        const I8Unfinished<Y> result = block.template result<Y>(r, panel, panels, block.sums);
        if constexpr (kEpilogue != 3)
          prefetch_rows(result.y, result.y_ld * kYBytes, result.rows, result.cols * kYBytes);
        Kernel::tile(panels, block.x(r), block.x_bytes(r), b, block.w_panel * Kernel::kWidened,
                     block.k, p.w_offset + panel * kInt8Panel, block.sums);
        i8_finish_rows<kEpilogue>(result);
      }
    }
    block.write_waiting();
  }
};

using Block = void (*)(const MatmulI8Params&, int64_t, int64_t, int64_t, int64_t);

template <class Order>
MOLTIDE_INLINE Block choose_block(const MatmulI8Params& p) {
  switch (p.epilogue) {
    case 0:
      return p.y_bf16 ? Order::template run<0, bf16> : Order::template run<0, float>;
    case 1:
      return p.y_bf16 ? Order::template run<1, bf16> : Order::template run<1, float>;
    case 2:
      return p.y_bf16 ? Order::template run<2, bf16> : Order::template run<2, float>;
    default:
      return Order::template run<3, float>;
  }
}

template <class Kernel, class Order = ByPanels<Kernel>>
void i8_blocked(const MatmulI8Params& p) {
  constexpr int64_t kInCache = 256 << 10;  // bytes of x, or of a result on its way to int8
  const int64_t panels = div_up(p.n, kInt8Panel);
  const bool quantized = p.epilogue == 3;
  const int64_t tasks = even_load_tasks();
  int64_t most = smaller(384, kInCache / bigger(p.k * Kernel::kBytes, 1));
  if (quantized) most = smaller(most, bigger(2 * kInCache / (panels * kInt8Panel * 4), 64));
  most = bigger(most, 32);
  // A row that becomes int8 needs all its columns: threads share rows only.
  if (quantized) most = bigger(smaller(most, p.m / tasks), 32);
  const int64_t even = div_up(p.m, div_up(p.m, most));
  const int64_t rows = div_up(even, Kernel::kRows) * Kernel::kRows;
  const int64_t row_blocks = div_up(p.m, rows);
  int64_t groups = 1;
  if (!quantized) groups = smaller(div_up(tasks, row_blocks), div_up(panels, Kernel::kPanels));
  const int64_t group = div_up(div_up(panels, groups), Kernel::kPanels) * Kernel::kPanels;
  groups = div_up(panels, group);
  const Block block = choose_block<Order>(p);
  parallel_for(row_blocks * groups, 1, [&](int64_t begin, int64_t end) {
    Kernel::begin();
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t / groups * rows, panel = t % groups * group;
      block(p, row, smaller(rows, p.m - row), panel, smaller(panel + group, panels));
    }
    Kernel::end();
  });
}

}  // namespace moltide::MOLTIDE_ISA
