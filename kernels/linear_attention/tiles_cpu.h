// Rows of a head in float32 tiles, and sums over them.
#pragma once
#include "core/parallel.h"
#include "device/transpose.h"
#include "linear_attention/linear_attention_args.h"
#include "linear_attention/products_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kTileLength = 256;  // rows of a sequence that are at hand at a time

MOLTIDE_INLINE int64_t whole(int64_t n) {
  return (n + W - 1) / W * W;
}

// The first element of row i of a head.
template <class T>
MOLTIDE_INLINE T* head_row(const LinearAttentionArgs& a, const LinearAttentionHead& h,
                           const LinearAttentionMatrix& x, int64_t i) {
  return static_cast<T*>(x.data) + (h.start + i) * x.ld + h.head * a.head_dim;
}

// n rows of a head from row i for `product` to ask for, none where n is not above 0.
MOLTIDE_INLINE Ahead rows_ahead(const LinearAttentionArgs& a, const LinearAttentionHead& h,
                                const LinearAttentionMatrix& x, int64_t i, int64_t n,
                                bool write = false) {
  const int64_t bytes = a.bf16 ? 2 : 4;
  const char* first =
      static_cast<const char*>(x.data) + ((h.start + i) * x.ld + h.head * a.head_dim) * bytes;
  return {first, x.ld * bytes, n > 0 ? n : 0, a.head_dim * bytes, write};
}

// out (n, whole(d)) = n rows of d, zeros behind them.
template <class T>
void copy_rows(const T* rows, int64_t ld, int64_t n, int64_t d, float* out) {
  const int64_t out_ld = whole(d), full = d / W * W;
  for (int64_t i = 0; i < n; ++i, rows += ld, out += out_ld) {
    for (int64_t c = 0; c < full; c += W) store(out + c, load(rows + c));
    if (full < d) store(out + full, load_n(rows + full, d - full));
  }
}

// out (columns, out_ld) = x (rows, ld) transposed; all four are multiples of W.
MOLTIDE_INLINE void transpose_matrix(const float* x, int64_t rows, int64_t columns, float* out) {
  for (int64_t i = 0; i < rows; i += W)
    for (int64_t c = 0; c < columns; c += W) {
      vf block[W];
      for (int j = 0; j < W; ++j) block[j] = load(x + (i + j) * columns + c);
      transpose(block);
      for (int j = 0; j < W; ++j) store(out + (c + j) * rows + i, block[j]);
    }
}

// sum (cols) += the n rows of x (n, cols): four running sums, joined in a fixed order.
MOLTIDE_INLINE void add_rows(const float* x, int64_t n, int64_t cols, float* sum) {
  for (int64_t c = 0; c < cols; c += W) {
    const float* p = x + c;
    vf s[4] = {};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int j = 0; j < 4; ++j) s[j] += load(p + (i + j) * cols);
    for (; i < n; ++i) s[0] += load(p + i * cols);
    store(sum + c, load(sum + c) + ((s[0] + s[1]) + (s[2] + s[3])));
  }
}

// out[i] = x row i . y row i, W rows at a time: rows n .. of the last W are read and their results
// mean nothing. y_ld 0: one row for all.
MOLTIDE_INLINE void row_dots(const float* x, const float* y, int64_t y_ld, int64_t n, int64_t cols,
                             float* out) {
  for (int64_t i = 0; i < n; i += W) {
    vf dots[W];
    for (int j = 0; j < W; ++j) {
      vf sum = {};
      for (int64_t c = 0; c < cols; c += W)
        sum = fma(load(x + (i + j) * cols + c), load(y + (i + j) * y_ld + c), sum);
      dots[j] = sum;
    }
    transpose(dots);
    vf total = dots[0];
    for (int j = 1; j < W; ++j) total += dots[j];
    store(out + i, total);
  }
}

// A NaN stays.
MOLTIDE_INLINE vf at_least(vf x, float least) {
  return select(x < set1(least), set1(least), x);
}

MOLTIDE_INLINE void clear(float* x, int64_t n) {
  std::memset(x, 0, static_cast<size_t>(n) * sizeof(float));
}

// Memory of one thread, handed out in 64-byte steps: a first pass only counts, then `allocate`,
// then the same requests again.
struct Carver {
  char* base;
  int64_t used = 0;

  float* floats(int64_t n) {
    float* p = base ? reinterpret_cast<float*>(base + used) : nullptr;
    used += (n * 4 + 63) / 64 * 64;
    return p;
  }
  void allocate() {
    base = static_cast<char*>(thread_scratch(Scratch::attention, static_cast<size_t>(used)));
    used = 0;
  }
};

}  // namespace
}  // namespace moltide::MOLTIDE_ISA
