// A block of rows on a kernel whose products run beside the vector units (AMX): 32 rows of x stay
// in the L1 cache while a group of panels, kept by the L2 cache, passes by; a tile's last step is
// taken in parts between the products of the next one. A Kernel says what matmul_blocks.h asks
// for, but k is one block (kBlockK is beyond any), and a stop along it at multiples of kPad leaves
// its bits alone.
#pragma once
#include "device/amx.h"
#include "matmul/matmul_blocks.h"

namespace moltide::MOLTIDE_ISA {

// The next kRowsAtOnce rows of a tile of whole panels, if there are so many, from sums kLd apart.
// Unrolled, with few addresses: scalar work would keep the products waiting.
template <int kEpilogue, int kLd, class Y>
MOLTIDE_INLINE void finish_some(Unfinished<Y>& u) {
  if (u.rows < kRowsAtOnce) return;
#pragma GCC unroll 4
  for (int i = 0; i < kRowsAtOnce; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < kLd; j += W)
      finish_vector<kEpilogue>(load(u.sum + i * kLd + j), load(u.bias + j), u.y + i * u.y_ld + j,
                               u.pre ? u.pre + i * u.pre_ld + j : nullptr, Whole{});
  u.sum += kRowsAtOnce * kLd;
  u.y += kRowsAtOnce * u.y_ld;
  if (kEpilogue == 2 && u.pre) u.pre += kRowsAtOnce * u.pre_ld;
  u.rows -= kRowsAtOnce;
}
template <int kEpilogue, class Y>
MOLTIDE_INLINE void finish_all(Unfinished<Y>& u) {
  if (u.rows > 0) finish_rows<kEpilogue>(u);
  u.rows = 0;
}

// Rows [row, row + rows) of y, panels [first_panel, last_panel).
template <class Kernel, int kEpilogue, class Y>
void matmul_block_by_rows(const MatmulParams& p, int64_t row, int64_t rows, int64_t first_panel,
                          int64_t last_panel) {
  constexpr int64_t kHeight = Kernel::kRowAlign, kCols = Kernel::kMaxPanels * kPanel;
  constexpr int64_t kSums = kHeight * kCols;
  const int64_t aligned = div_up(rows, kHeight) * kHeight;
  const int64_t padded = div_up(p.k, kBf16Pad) * kBf16Pad, w_panel = panel_bytes(p.k, true);
  const int64_t parts = bigger(div_up(padded, Kernel::kInnerK), 1);
  const int64_t inner_k = div_up(div_up(padded, parts), kBf16Pad) * kBf16Pad;
  const int64_t steps = div_up(last_panel - first_panel, Kernel::kMaxPanels);
  const int64_t group = smaller(steps, 1 + (kGroupBytes - 1) / (Kernel::kMaxPanels * w_panel + 1));
  char* a_scratch = static_cast<char*>(thread_scratch(
      Scratch::matmul_a, static_cast<size_t>(aligned * (padded * Kernel::kInBytes + 128))));
  // Two tiles of sums that take turns; where k takes parts, a row of tiles.
  float* sums = static_cast<float*>(
      thread_scratch(Scratch::matmul_b, static_cast<size_t>((parts == 1 ? 2 : group) * kSums * 4)));
  typename Kernel::Rows policy(p, nullptr);
  const RowSource source = gather_rows<Kernel>(p, row, rows, 0, p.k, policy, a_scratch);
  Unfinished<Y> last = unfinished<Y>(p, 0, 0, 0, 0, sums, kCols);
  int64_t count = 0;

  for (int64_t first = 0; first < steps; first += group) {
    const int64_t end = smaller(steps, first + group);
    for (int64_t r = 0; r < rows; r += kHeight) {
      const bool direct = r < source.direct_rows;
      const int64_t a_bytes = direct ? source.direct_bytes : source.copied_bytes;
      const char* a =
          direct ? source.direct + r * a_bytes : source.copied + (r - source.direct_rows) * a_bytes;
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t k = part * inner_k, kn = bigger(smaller(inner_k, p.k - k), 0);
        for (int64_t step = first; step < end; ++step, ++count) {
          const int64_t panel = first_panel + step * Kernel::kMaxPanels;
          const int panels = static_cast<int>(smaller(Kernel::kMaxPanels, last_panel - panel));
          const char* b = static_cast<const char*>(p.w) + panel * w_panel + k * kPanel * 2;
          float* sum = sums + (parts == 1 ? count % 2 : step - first) * kSums;
          Kernel::tile(panels, a + k * 2, a_bytes, b, w_panel, kn, sum, kCols, part == 0,
                       [&] { finish_some<kEpilogue, kCols>(last); });
          if (part + 1 < parts) continue;
          finish_all<kEpilogue>(last);
          last = unfinished<Y>(p, row + r, smaller(kHeight, rows - r), panel * kPanel,
                               smaller(panels * kPanel, p.n - panel * kPanel), sum, kCols);
          if (last.cols < kCols) finish_all<kEpilogue>(last);
        }
      }
      // The next rows may use the same place.
      if (parts > 1) finish_all<kEpilogue>(last);
    }
  }
  finish_all<kEpilogue>(last);
}

template <class Kernel, class Y>
void matmul_by_rows(const MatmulParams& p) {
  switch (p.epilogue) {
    case 0:
      return matmul_blocked<Kernel>(p, matmul_block_by_rows<Kernel, 0, Y>);
    case 1:
      return matmul_blocked<Kernel>(p, matmul_block_by_rows<Kernel, 1, Y>);
    default:
      return matmul_blocked<Kernel>(p, matmul_block_by_rows<Kernel, 2, Y>);
  }
}

}  // namespace moltide::MOLTIDE_ISA
