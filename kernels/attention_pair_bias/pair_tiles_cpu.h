// Tiles of attention_pair_bias: W queries along the lanes, keys down the rows.
#pragma once
#include "attention_pair_bias/attention_pair_bias_args.h"
#include "core/parallel.h"
#include "device/gelu.h"
#include "device/rows.h"
#include "device/transpose.h"

#define MOLTIDE_INLINED __attribute__((always_inline))

namespace moltide::MOLTIDE_ISA {

constexpr int kKeys = 4;  // rows of keys that a pass takes at a time

MOLTIDE_INLINE int64_t whole_vectors(int64_t n) {
  return (n + W - 1) / W * W;
}

// Memory of one thread, handed out in 64-byte steps: a first pass only counts, then `allocate`,
// then the same requests again.
struct PairCarver {
  char* base = nullptr;
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

template <class T>
MOLTIDE_INLINE vf load_some(const T* p, int64_t n) {
  return n >= W ? load(p) : load_n(p, n);
}
template <class T>
MOLTIDE_INLINE void store_some(T* p, vf v, int64_t n) {
  n >= W ? store(p, v) : store_n(p, v, n);
}

// out[i][0..d) = factor * row i.
template <class T>
static void widen_rows(const T* rows, int64_t ld, int64_t n, int64_t d, float factor, float* out) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < d; c += W)
      store_some(out + i * d + c, set1(factor) * load_some(rows + i * ld + c, d - c), d - c);
}

// out[c][i] = factor * row i, column c; lanes from n on are zero.
template <class T>
static void rows_to_lanes(const T* rows, int64_t ld, int64_t n, int64_t d, float factor,
                          float* out) {
  for (int64_t c = 0; c < d; c += W) {
    vf tile[W];
    for (int i = 0; i < W; ++i)
      tile[i] = i < n ? set1(factor) * load_some(rows + i * ld + c, d - c) : vf{};
    transpose(tile);
    for (int64_t j = 0; j < W && c + j < d; ++j) store(out + (c + j) * W, tile[j]);
  }
}

// row i, column c = factor * in[c][i] for the first n rows; rows of `in` are `stride` apart.
template <class T>
static void lanes_to_rows(const float* in, int64_t stride, float factor, int64_t n, int64_t d,
                          T* rows, int64_t ld) {
  for (int64_t c = 0; c < d; c += W) {
    vf tile[W];
    for (int j = 0; j < W; ++j)
      tile[j] = c + j < d ? set1(factor) * load(in + (c + j) * stride) : vf{};
    transpose(tile);
    for (int64_t i = 0; i < W && i < n; ++i) store_some(rows + i * ld + c, tile[i], d - c);
  }
}

// f(j, s) for all keys j in order: s[i] = sum over c of row[j][c] * lanes[c][i].
template <class F>
MOLTIDE_INLINE void dot_keys(const float* rows, const float* lanes, int64_t keys, int64_t d,
                             F&& f) {
  int64_t j = 0;
  for (; j + kKeys <= keys; j += kKeys) {
    vf s[kKeys] = {};
    for (int64_t c = 0; c < d; ++c) {
      const vf x = load(lanes + c * W);
#pragma GCC unroll 4
      for (int r = 0; r < kKeys; ++r) s[r] = fma(set1(rows[(j + r) * d + c]), x, s[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kKeys; ++r) f(j + r, s[r]);
  }
  for (; j < keys; ++j) {
    vf s{};
    for (int64_t c = 0; c < d; ++c) s = fma(set1(rows[j * d + c]), load(lanes + c * W), s);
    f(j, s);
  }
}

// sums[c] (a vector each, `stride` apart) += sum over j, in order, of rows[j][c] * lanes[j].
template <int N>
MOLTIDE_INLINE void weigh_columns(const float* rows, const float* lanes, int64_t n, int64_t d,
                                  float* sums, int64_t stride) {
  vf sum[N];
#pragma GCC unroll 8
  for (int c = 0; c < N; ++c) sum[c] = load(sums + c * stride);
  for (int64_t j = 0; j < n; ++j) {
    const vf x = load(lanes + j * W);
#pragma GCC unroll 8
    for (int c = 0; c < N; ++c) sum[c] = fma(set1(rows[j * d + c]), x, sum[c]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < N; ++c) store(sums + c * stride, sum[c]);
}
MOLTIDE_INLINE void weigh_rows(const float* rows, const float* lanes, int64_t n, int64_t d,
                               float* sums, int64_t stride) {
  int64_t c = 0;
  for (; c + 8 <= d; c += 8) weigh_columns<8>(rows + c, lanes, n, d, sums + c * stride, stride);
  if (c < d) weigh_columns<4>(rows + c, lanes, n, d, sums + c * stride, stride);
}

}  // namespace moltide::MOLTIDE_ISA
