// Moving rows of (T, H*D) matrices, f32 or bf16, into and out of float32 tiles. D and every partial
// count of columns are multiples of 4.
#pragma once
#include "attention/tiles_cpu.h"
#include "core/parallel.h"

namespace moltide::MOLTIDE_ISA {

// The queries of a sequence as blocks of up to kBlockVectors vectors, sizes as even as possible. A
// function of the length alone.
struct Blocks {
  int64_t vectors, count;

  explicit Blocks(int64_t len)
      : vectors((len + W - 1) / W), count((vectors + kBlockVectors - 1) / kBlockVectors) {}
  int64_t first_row(int64_t block) const { return vectors * block / count * W; }
  int width(int64_t block) const {
    return static_cast<int>(vectors * (block + 1) / count - vectors * block / count);
  }
};

MOLTIDE_INLINE float to_float(float x) {
  return x;
}
MOLTIDE_INLINE float to_float(bf16 x) {
  return bf16_to_float(x);
}

template <class T>
MOLTIDE_INLINE vf load_columns(const T* p, int64_t n) {
  return n >= W ? load(p) : load_n(p, n);
}

template <class T>
MOLTIDE_INLINE void store_columns(T* p, vf v, int64_t n) {
  if (n >= W) return store(p, v);
  T buffer[W];
  store(buffer, v);
  for (int64_t i = 0; i < n; i += 4) std::memcpy(p + i, buffer + i, 4 * sizeof(T));
}

// out[i][0..d) = row i; columns d .. out_stride are zero.
template <class T>
static void copy_rows(const T* rows, int64_t ld, int64_t n, int64_t d, float* out,
                      int64_t out_stride) {
  for (int64_t i = 0; i < n; ++i) {
    const T* from = rows + i * ld;
    float* to = out + i * out_stride;
    int64_t c = 0;
    for (; c + W <= d; c += W) store(to + c, load(from + c));
    for (; c < d; c += 4)
      for (int j = 0; j < 4; ++j) to[c + j] = to_float(from[c + j]);
    for (; c < out_stride; ++c) to[c] = 0.0f;
  }
}

// `product` takes an even number of rows: an odd one out gets itself for a neighbour, whose results
// nobody reads and which leaves a maximum alone. out has n + 1 rows of d.
template <class T>
static void copy_rows_doubling_last(const T* rows, int64_t ld, int64_t n, int64_t d, float* out) {
  copy_rows(rows, ld, n, d, out, d);
  std::memcpy(out + n * d, out + (n - 1) * d, static_cast<size_t>(d) * sizeof(float));
}

// out[c][i] = factor * row i, column c; lanes n .. vectors*W are zero.
template <class T>
static void transpose_rows(const T* rows, int64_t ld, int64_t n, int64_t d, float factor,
                           int vectors, float* out) {
  const vf scale = set1(factor);
  for (int v = 0; v < vectors; ++v) {
    for (int64_t c = 0; c < d; c += W) {
      vf tile[W];
      for (int i = 0; i < W; ++i) {
        const int64_t row = v * W + i;
        tile[i] = row < n ? scale * load_columns(rows + row * ld + c, d - c) : vf{};
      }
      transpose(tile);
      const int64_t columns = d - c < W ? d - c : W;
      for (int64_t j = 0; j < columns; ++j) store(out + (c + j) * kLanes + v * W, tile[j]);
    }
  }
}

// row i, column c = tile[c][i] * factor[i] for the first n rows.
template <class T>
static void untranspose_rows(const float* tile, const float* factor, int64_t n, int64_t d, T* rows,
                             int64_t ld) {
  for (int64_t first = 0; first < n; first += W) {
    const vf scale = load(factor + first);
    const int64_t count = n - first < W ? n - first : W;
    for (int64_t c = 0; c < d; c += W) {
      vf block[W];
      for (int j = 0; j < W; ++j)
        block[j] = c + j < d ? scale * load(tile + (c + j) * kLanes + first) : vf{};
      transpose(block);
      for (int64_t i = 0; i < count; ++i)
        store_columns(rows + (first + i) * ld + c, block[i], d - c);
    }
  }
}

// row i = factor * in[i][0..d) for the first n rows.
template <class T>
static void store_rows(const float* in, int64_t in_stride, float factor, int64_t n, int64_t d,
                       T* rows, int64_t ld) {
  const vf scale = set1(factor);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < d; c += W)
      store_columns(rows + i * ld + c, scale * load(in + i * in_stride + c), d - c);
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

}  // namespace moltide::MOLTIDE_ISA
