// The loops around the register tile, shared by the instruction sets (each gets its own copy).
// A Kernel says: kInBytes of an element of x, kConvert (bf16 is widened to float32 on its way into
// scratch), Rows (how those of x come to the tile), kPad (they are read in multiples of it along
// k), at most kBlockRows x kBlockK of x kept in the L2 cache, at most kInnerK that a tile takes in
// one go: where it stops depends on k alone. rows(panels), tile(...).
#pragma once
#include "core/parallel.h"
#include "matmul/matmul_epilogue.h"
#include "matmul/matmul_params.h"
#include "matmul/matmul_tile.h"

namespace moltide::MOLTIDE_ISA {

// Bytes of one packed panel of W.
MOLTIDE_INLINE int64_t panel_bytes(int64_t k, bool bf16) {
  return bf16 ? div_up(k, kBf16Pad) * kBf16Pad * kPanel * 2 : k * kPanel * 4;
}

// How rows of x come to the tile. kAllCopied: copy() is called for all of them, not only for those
// that do not fill a tile or kPad; k0: where `from` lies along k. finish(): what is done to a
// tile's sums before the epilogue.
template <int kInBytes>
struct RowsAsTheyAre {
  static constexpr bool kAllCopied = false;
  static int64_t bytes(int64_t) { return 0; }
  RowsAsTheyAre(const MatmulParams&, void*) {}
  // Zeros after `n` up to `padded` elements.
  void copy(int64_t, const char* from, int64_t, int64_t n, int64_t padded, char* to) {
    std::memcpy(to, from, static_cast<size_t>(n * kInBytes));
    std::memset(to + n * kInBytes, 0, static_cast<size_t>((padded - n) * kInBytes));
  }
  void finish(int64_t, int64_t, int64_t, int, float*, int64_t) const {}
};

// bf16 as float32.
struct WidenedRows : RowsAsTheyAre<4> {
  static constexpr bool kAllCopied = true;
  using RowsAsTheyAre::RowsAsTheyAre;
  void copy(int64_t, const char* from, int64_t, int64_t n, int64_t padded, char* to) {
    const bf16* x = reinterpret_cast<const bf16*>(from);
    float* y = reinterpret_cast<float*>(to);
    int64_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(x + i));
    if (i < n) store_n(y + i, load_n(x + i, n - i), n - i);
    for (i = n; i < padded; ++i) y[i] = 0.0f;
  }
};

// `pairs` steps of a bf16 panel as 2 * pairs steps of a float32 panel.
MOLTIDE_INLINE void widen_panel(const char* from, int64_t pairs, char* to) {
  for (int64_t s = 0; s < pairs; ++s)
    for (int j = 0; j < 16; j += W) {
      vu both;
      std::memcpy(&both, from + s * 64 + j * 4, sizeof(both));
      store(reinterpret_cast<float*>(to + s * 128) + j, (vf)(both << 16));
      store(reinterpret_cast<float*>(to + s * 128 + 64) + j, (vf)(both & 0xffff0000u));
    }
}

// Rows of x as the tile reads them: where they lie, or copied to scratch.
struct RowSource {
  const char* direct;
  const char* copied;
  int64_t direct_bytes, copied_bytes;  // from row to row
  int64_t direct_rows;                 // rows from here on are the copied ones
};

template <class Kernel>
MOLTIDE_INLINE RowSource gather_rows(const MatmulParams& p, int64_t row, int64_t rows, int64_t k0,
                                     int64_t kn, typename Kernel::Rows& policy, char* scratch) {
  constexpr int kOut = Kernel::kConvert ? 4 : Kernel::kInBytes;
  const int64_t padded = div_up(kn, Kernel::kPad) * Kernel::kPad;
  RowSource s;
  s.direct_bytes = p.x_ld * Kernel::kInBytes;
  s.direct = static_cast<const char*>(p.x) + row * s.direct_bytes + k0 * Kernel::kInBytes;
  s.copied = scratch;
  // Off a power of two, so that the rows of a tile fall into different cache sets.
  s.copied_bytes = div_up(padded * kOut, 64) * 64 + 64;
  const bool whole = !Kernel::Rows::kAllCopied && padded == kn;
  s.direct_rows = whole ? rows / Kernel::kRowAlign * Kernel::kRowAlign : 0;
  int64_t i = s.direct_rows;
  for (char* to = scratch; i < rows; ++i, to += s.copied_bytes)
    policy.copy(i, s.direct + i * s.direct_bytes, k0, kn, padded, to);
  const int64_t aligned = div_up(rows, Kernel::kRowAlign) * Kernel::kRowAlign;
  std::memset(scratch + (rows - s.direct_rows) * s.copied_bytes, 0,
              static_cast<size_t>((aligned - rows) * s.copied_bytes));
  return s;
}

// Of n along k, what each of as few parts as `most` allows takes, multiples of what bf16 is padded
// to.
MOLTIDE_INLINE int64_t even_share(int64_t n, int64_t most) {
  const int64_t parts = bigger(div_up(n, most), 1);
  return bigger(div_up(div_up(n, parts), kBf16Pad), 1) * kBf16Pad;
}

// W's panels after those in use, `lines` cache lines each from `at` on, shared out among `tiles`
// tiles.
class PanelsAhead {
 public:
  PanelsAhead(const char* at, int64_t panels, int64_t lines, int64_t panel_bytes, int64_t tiles)
      : at_(at),
        lines_(lines),
        panel_bytes_(panel_bytes),
        share_(div_up(panels * lines, tiles)),
        step_(256 * panels / tiles) {}
  Stream next() {
    const Stream share{at_ + line_ * 64, step_};
    for (line_ += share_; line_ >= lines_; line_ -= lines_) at_ += panel_bytes_;
    return share;
  }

 private:
  const char* at_;
  int64_t lines_, panel_bytes_, share_, step_, line_ = 0;
};

// The rows of x after a block's, where the cache has room for them beside the block's own, shared
// out among the tiles that go `times` times over the block's rows.
class RowsAhead {
 public:
  template <class Kernel>
  static RowsAhead of(const MatmulParams& p, int64_t row, int64_t rows, int64_t times) {
    constexpr int64_t kInCache = 256 << 10;
    const int64_t ld = p.x_ld * Kernel::kInBytes;
    const int64_t bytes = smaller(rows, p.m - row - rows) * ld;
    RowsAhead ahead;
    ahead.at_ = static_cast<const char*>(p.x) + (row + rows) * ld;
    if (bytes <= kInCache) ahead.per_row_ = bytes / (times * rows);
    return ahead;
  }
  // For tiles of `height` rows that ask `asks` times.
  void begin(int64_t height, int64_t asks) {
    share_ = per_row_ * height;
    step_ = div_up(share_, asks);
  }
  Stream next() {
    const Stream share{at_, step_};
    at_ += share_;
    return share;
  }

 private:
  const char* at_ = nullptr;
  int64_t per_row_ = 0, share_ = 0, step_ = 0;
};

// Of y, what a tile's sums become.
MOLTIDE_INLINE RowStream results_ahead(const MatmulParams& p, int64_t row, int64_t rows,
                                       int64_t col, int64_t cols) {
  const int64_t bytes = p.y_bf16 ? 2 : 4;
  return {static_cast<const char*>(p.y) + (row * p.y_ld + col) * bytes, p.y_ld * bytes, rows,
          div_up(cols * bytes, 64)};
}

// Rows [row, row + rows) of y, panels [first_panel, last_panel).
template <class Kernel>
void matmul_block(const MatmulParams& p, int64_t row, int64_t rows, int64_t first_panel,
                  int64_t last_panel) {
  constexpr int kOut = Kernel::kConvert ? 4 : Kernel::kInBytes;
  constexpr int64_t kStepCols = Kernel::kMaxPanels * kPanel;
  static_assert(kStepCols <= kMostColumns);
  const int64_t aligned = div_up(rows, Kernel::kRowAlign) * Kernel::kRowAlign;
  const bool split = p.k > Kernel::kBlockK;
  const int64_t block_k = even_share(p.k, Kernel::kBlockK);
  const int64_t inner_k = even_share(block_k, Kernel::kInnerK);
  const int64_t steps = div_up(last_panel - first_panel, Kernel::kMaxPanels);
  RowsAhead rows_ahead =
      RowsAhead::of<Kernel>(p, row, rows, steps * bigger(div_up(p.k, inner_k), 1));
  const int64_t a_bytes = aligned * (block_k * kOut + 128);
  char* a_scratch = static_cast<char*>(thread_scratch(
      Scratch::matmul_a, static_cast<size_t>(a_bytes + Kernel::Rows::bytes(aligned))));
  typename Kernel::Rows policy(p, a_scratch + a_bytes);
  // Sums of one step of panels; of all of them when k takes several outer blocks.
  const int64_t sums = aligned * kStepCols;
  const int64_t widened = Kernel::kConvert ? inner_k * kStepCols : 0;
  float* c_scratch = static_cast<float*>(thread_scratch(
      Scratch::matmul_b, static_cast<size_t>((sums * (split ? steps : 1) + widened) * 4)));
  char* b_scratch = reinterpret_cast<char*>(c_scratch + sums * (split ? steps : 1));
  const int64_t w_panel = panel_bytes(p.k, Kernel::kInBytes == 2);
  const Finish finish = choose_finish(p);

  for (int64_t k0 = 0; k0 == 0 || k0 < p.k; k0 += block_k) {
    const int64_t k1 = smaller(p.k, k0 + block_k);
    const RowSource source = gather_rows<Kernel>(p, row, rows, k0, k1 - k0, policy, a_scratch);
    for (int64_t step = 0; step < steps; ++step) {
      const int64_t panel = first_panel + step * Kernel::kMaxPanels;
      const int panels = static_cast<int>(smaller(Kernel::kMaxPanels, last_panel - panel));
      const int64_t cols = smaller(panels * kPanel, p.n - panel * kPanel);
      float* c = c_scratch + (split ? step * sums : 0);
      const int height = Kernel::rows(panels);
      for (int64_t k = k0; k == k0 || k < k1; k += inner_k) {
        const int64_t kn = smaller(inner_k, k1 - k);
        const char* b =
            static_cast<const char*>(p.w) + panel * w_panel + k * kPanel * Kernel::kInBytes;
        // What the tiles after these rows read: further along k, or the next panels.
        const int64_t lines = bigger(div_up(kn, 4 / Kernel::kInBytes), 1);
        const char* next =
            b + (k + kn < k1 ? lines * 64
                             : Kernel::kMaxPanels * w_panel - (k - k0) * kPanel * Kernel::kInBytes);
        int64_t b_panel = w_panel;
        if constexpr (Kernel::kConvert) {
          for (int j = 0; j < panels; ++j)
            widen_panel(b + j * w_panel, div_up(kn, 2), b_scratch + j * inner_k * 64);
          b = b_scratch;
          b_panel = inner_k * 64;
        }
        PanelsAhead panels_ahead(next, panels, lines, w_panel, div_up(rows, height));
        rows_ahead.begin(height, div_up(lines, 4));
        for (int64_t r = 0; r < rows; r += height) {
          const bool direct = r < source.direct_rows;
          const int64_t bytes = direct ? source.direct_bytes : source.copied_bytes;
          const char* a = (direct ? source.direct + r * bytes
                                  : source.copied + (r - source.direct_rows) * bytes) +
                          (k - k0) * kOut;
          float* sum = c + r * kStepCols;
          const int64_t finished = smaller(height, rows - r);
          const Ahead ahead{panels_ahead.next(), rows_ahead.next(),
                            results_ahead(p, row + r, finished, panel * kPanel, cols)};
          Kernel::tile(panels, a, bytes, b, b_panel, kn, sum, kStepCols, k == 0, ahead);
          if (k + kn < p.k) continue;
          policy.finish(r, finished, panel, panels, sum, kStepCols);
          finish(p, row + r, finished, panel * kPanel, cols, sum, kStepCols);
        }
      }
    }
  }
}

// block(p, row, rows, first_panel, last_panel): matmul_block or another order of its loops.
template <class Kernel, class Block>
void matmul_blocked(const MatmulParams& p, Block&& block) {
  const int64_t panels = div_up(p.n, kPanel);
  const int64_t even = div_up(p.m, div_up(p.m, Kernel::kBlockRows));
  const int64_t rows = div_up(even, Kernel::kRowAlign) * Kernel::kRowAlign;
  const int64_t row_blocks = div_up(p.m, rows);
  const int64_t widest = p.k > Kernel::kBlockK ? 32 : panels;
  int64_t groups = div_up(panels, widest);
  const int64_t tasks = even_load_tasks();
  if (row_blocks * groups < tasks)
    groups = smaller(div_up(tasks, row_blocks), div_up(panels, Kernel::kMaxPanels));
  const int64_t group = div_up(div_up(panels, groups), Kernel::kMaxPanels) * Kernel::kMaxPanels;
  groups = div_up(panels, group);
  parallel_for(row_blocks * groups, 1, [&](int64_t begin, int64_t end) {
    Kernel::begin();
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t / groups * rows, panel = t % groups * group;
      block(p, row, smaller(rows, p.m - row), panel, smaller(panel + group, panels));
    }
    Kernel::end();
  });
}
template <class Kernel>
void matmul_blocked(const MatmulParams& p) {
  matmul_blocked<Kernel>(p, matmul_block<Kernel>);
}

}  // namespace moltide::MOLTIDE_ISA
