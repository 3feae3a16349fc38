// Walks over the columns of a row, W at a time; the last, partial vector runs the same code as the
// whole ones, so that an element's bits do not depend on where in a vector it falls.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// How much of a vector is there: all of it, or the first n < W elements.
struct Whole {};
struct Part {
  int64_t n;
};
MOLTIDE_INLINE int64_t count_of(Whole) {
  return W;
}
MOLTIDE_INLINE int64_t count_of(Part part) {
  return part.n;
}

template <class T>
MOLTIDE_INLINE vf load(const T* p, Whole) {
  return load(p);
}
template <class T>
MOLTIDE_INLINE vf load(const T* p, Part part) {
  return load_n(p, part.n);
}
template <class T>
MOLTIDE_INLINE void store(T* p, vf v, Whole) {
  store(p, v);
}
template <class T>
MOLTIDE_INLINE void store(T* p, vf v, Part part) {
  store_n(p, v, part.n);
}
// v with zeros where there is nothing.
MOLTIDE_INLINE vf keep(vf v, Whole) {
  return v;
}
MOLTIDE_INLINE vf keep(vf v, Part part) {
  float buffer[W];
  store(buffer, v);
  return load_n(buffer, part.n);
}

// f(i, how_much) for i = 0, W, 2W ... < n.
template <class F>
MOLTIDE_INLINE void for_columns(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + W <= n; i += W) f(i, Whole{});
  if (i < n) f(i, Part{n - i});
}

// Sum over a row of what f(i, how_much) returns: four running sums, joined in a fixed order.
template <class F>
MOLTIDE_INLINE float sum_columns(int64_t n, F&& f) {
  vf s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    s0 += f(i, Whole{});
    s1 += f(i + W, Whole{});
    s2 += f(i + 2 * W, Whole{});
    s3 += f(i + 3 * W, Whole{});
  }
  for (; i + W <= n; i += W) s0 += f(i, Whole{});
  if (i < n) s1 += keep(f(i, Part{n - i}), Part{n - i});
  return reduce_add((s0 + s1) + (s2 + s3));
}

// How many vectors a column group holds, as a type.
template <int V>
struct Vectors {
  static constexpr int value = V;
};

// f(i, how_much, vectors) over columns [begin, end) in groups of four vectors, then of one.
template <class F>
MOLTIDE_INLINE void for_column_groups(int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + 4 * W <= end; i += 4 * W) f(i, Whole{}, Vectors<4>{});
  for (; i + W <= end; i += W) f(i, Whole{}, Vectors<1>{});
  if (i < end) f(i, Part{end - i}, Vectors<1>{});
}

}  // namespace moltide::MOLTIDE_ISA
