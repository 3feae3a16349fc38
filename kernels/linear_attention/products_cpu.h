// Products of small float32 matrices whose right factor and result have whole vectors as rows.
#pragma once
#include "device/prefetch.h"
#include "device/put.h"
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {
namespace {

// Register tiles: V vectors of columns by kTileRows<V> rows of accumulators.
#if defined(__AVX512F__)
constexpr int kMostVectors = 4;
template <int V>
constexpr int kTileRows = V == 4 ? 6 : 12;
#else
constexpr int kMostVectors = 2;
template <int V>
constexpr int kTileRows = V == 2 ? 6 : 12;
#endif

// Where a(i, l) of a left factor lies: rows or columns contiguous.
enum class Left { rows, columns };

// What becomes of the result's vector v of row i.
struct Store {
  float* to;
  int64_t ld;
  void operator()(int64_t i, int v, vf x) const { store(to + i * ld + v * W, x); }
};
struct StorePositive {
  float* to;
  int64_t ld;
  // A NaN passes.
  void operator()(int64_t i, int v, vf x) const {
    store(to + i * ld + v * W, select(x < vf{}, vf{}, x));
  }
};
struct AddTo {
  float* to;
  int64_t ld;
  void operator()(int64_t i, int v, vf x) const {
    float* p = to + i * ld + v * W;
    store(p, load(p) + x);
  }
};
// Times the row's factor, if there is one, into `cols` columns of f32 or bf16.
template <class T>
struct Result {
  T* to;
  int64_t ld, cols;
  const float* factor;
  void operator()(int64_t i, int v, vf x) const {
    if (factor) x *= set1(factor[i]);
    put(to + i * ld + v * W, x, cols - v * W);
  }
};

// Rows to read or to write soon, asked for while a product runs: heads lie side by side in rows far
// apart, which no hardware foresees.
struct Ahead {
  const void* at;
  int64_t ld_bytes, rows, bytes;
  bool write;

  // What falls to `part` of `whole` after `done` of it.
  void step(int64_t done, int64_t part, int64_t whole) const {
    const int64_t begin = rows * done / whole, n = rows * (done + part) / whole - begin;
    const char* first = static_cast<const char*>(at) + begin * ld_bytes;
    write ? prefetch_rows<true>(first, ld_bytes, n, bytes)
          : prefetch_rows<false>(first, ld_bytes, n, bytes);
  }
};

// C[i][v] = sum over l < n of a(i, l) * b[l][v], l ascending whatever the tile's shape: the bits of
// an element do not depend on which tile computes it.
template <Left layout, int R, int V, class Out>
MOLTIDE_INLINE void tile(int64_t row, int first, int64_t n, const float* a, int64_t a_ld,
                         const float* b, int64_t b_ld, const Out& out) {
  vf c[R][V];
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) c[i][v] = vf{};
  }
  a += row * (layout == Left::rows ? a_ld : 1);
  b += first * W;
  for (int64_t l = 0; l < n; ++l, b += b_ld) {
    vf right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load(b + v * W);
#pragma GCC unroll 12
    for (int i = 0; i < R; ++i) {
      const vf x = set1(layout == Left::rows ? a[i * a_ld + l] : a[l * a_ld + i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) c[i][v] = fma(x, right[v], c[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) out(row + i, first + v, c[i][v]);
  }
}

template <Left layout, int V, class Out>
MOLTIDE_INLINE void tiles(int64_t rows, int first, int vectors, int64_t n, const float* a,
                          int64_t a_ld, const float* b, int64_t b_ld, const Out& out,
                          const Ahead& ahead) {
  int64_t i = 0;
  const auto up_to_here = [&]<int R>() __attribute__((always_inline)) {
    for (; i + R <= rows; i += R) {
      ahead.step(first * rows + i * V, R * V, vectors * rows);
      tile<layout, R, V>(i, first, n, a, a_ld, b, b_ld, out);
    }
  };
  up_to_here.template operator()<kTileRows<V>>();
  if constexpr (kTileRows<V> > 6) up_to_here.template operator()<6>();
  up_to_here.template operator()<3>();
  up_to_here.template operator()<1>();
}

// out of (rows, cols) = a (rows, n) times b (n, cols), cols a multiple of W.
template <Left layout, class Out>
__attribute__((noinline)) void product(int64_t rows, int64_t cols, int64_t n, const float* a,
                                       int64_t a_ld, const float* b, int64_t b_ld, Out out,
                                       const Ahead& ahead) {
  const int vectors = static_cast<int>(cols / W);
  int v = 0;
  for (; v + kMostVectors <= vectors; v += kMostVectors)
    tiles<layout, kMostVectors>(rows, v, vectors, n, a, a_ld, b, b_ld, out, ahead);
  if constexpr (kMostVectors > 2)
    for (; v + 2 <= vectors; v += 2)
      tiles<layout, 2>(rows, v, vectors, n, a, a_ld, b, b_ld, out, ahead);
  for (; v < vectors; ++v) tiles<layout, 1>(rows, v, vectors, n, a, a_ld, b, b_ld, out, ahead);
}

}  // namespace
}  // namespace moltide::MOLTIDE_ISA
