#include "core/parallel.h"
#include "device/rows.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int kRows = 4;  // of a register tile

// out[i][j ..] for R rows from i: the sum over k, in order, of term(k, r, j, n).
template <int R, class N, class Term>
MOLTIDE_INLINE void tile(int64_t length, int64_t i, int64_t j, N n, float* out, Term&& term) {
  vf sum[R] = {};
  for (int64_t k = 0; k < length; ++k) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sum[r] = term(k, i + r, j, n, sum[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) store(out + (i + r) * length + j, sum[r], n);
}

template <class Term>
MOLTIDE_INLINE void all_tiles(int64_t length, float* out, Term&& term) {
  for_columns(length, [&](int64_t j, auto n) {
    int64_t i = 0;
    for (; i + kRows <= length; i += kRows) tile<kRows>(length, i, j, n, out, term);
    for (; i < length; ++i) tile<1>(length, i, j, n, out, term);
  });
}

void transpose(const float* from, int64_t length, float* to) {
  for (int64_t i = 0; i < length; ++i)
    for (int64_t j = 0; j < length; ++j) to[j * length + i] = from[i * length + j];
}

float* scratch_planes(int64_t count, int64_t length) {
  const size_t floats = static_cast<size_t>(count * length * length);
  return static_cast<float*>(thread_scratch(Scratch::op, floats * sizeof(float)));
}

}  // namespace

// As matrices with a key a row: X = B'A + BA'.
void triangle_product_fwd_plane(const float* a, const float* b, int64_t length, float* x) {
  float* turned = scratch_planes(1, length);
  transpose(a, length, turned);
  all_tiles(length, x, [&](int64_t k, int64_t i, int64_t j, auto n, vf sum) {
    sum = fma(set1(b[k * length + i]), load(a + k * length + j, n), sum);
    return fma(set1(b[i * length + k]), load(turned + k * length + j, n), sum);
  });
}

// dA = BD + D'B, dB = AD' + DA
void triangle_product_bwd_plane(const float* dx, const float* a, const float* b, int64_t length,
                                float* da, float* db) {
  const int64_t plane = length * length;
  float* turned = scratch_planes(3, length);
  float *new_a = turned + plane, *new_b = turned + 2 * plane;
  transpose(dx, length, turned);
  all_tiles(length, new_a, [&](int64_t k, int64_t i, int64_t j, auto n, vf sum) {
    sum = fma(set1(b[i * length + k]), load(dx + k * length + j, n), sum);
    return fma(set1(turned[i * length + k]), load(b + k * length + j, n), sum);
  });
  all_tiles(length, new_b, [&](int64_t k, int64_t i, int64_t j, auto n, vf sum) {
    sum = fma(set1(a[i * length + k]), load(turned + k * length + j, n), sum);
    return fma(set1(dx[i * length + k]), load(a + k * length + j, n), sum);
  });
  std::memcpy(da, new_a, static_cast<size_t>(plane) * sizeof(float));
  std::memcpy(db, new_b, static_cast<size_t>(plane) * sizeof(float));
}

}  // namespace moltide::MOLTIDE_ISA
