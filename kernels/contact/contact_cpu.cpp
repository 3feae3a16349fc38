// Per head the marginals of a + a^T; then W x W blocks of the upper triangle, each mirrored.
#include <math.h>

#include "contact/contact_args.h"
#include "device/simd.h"
#include "device/transpose.h"

namespace moltide::MOLTIDE_ISA {
namespace {

MOLTIDE_INLINE vf load_up_to(const float* p, int64_t n) {
  return n >= W ? load(p) : load_n(p, n);
}
MOLTIDE_INLINE void store_up_to(float* p, vf v, int64_t n) {
  n >= W ? store(p, v) : store_n(p, v, n);
}

// Rows [row, row + W) and columns [column, column + W) of a matrix; zeros where it ends.
MOLTIDE_INLINE void load_block(const float* a, int64_t ld, int64_t row, int64_t column, int64_t n,
                               vf (&block)[W]) {
  for (int i = 0; i < W; ++i)
    block[i] = row + i < n ? load_up_to(a + (row + i) * ld + column, n - column) : vf{};
}

MOLTIDE_INLINE void add_block(float* a, int64_t row, int64_t column, int64_t n,
                              const vf (&block)[W]) {
  for (int i = 0; i < W && row + i < n; ++i) {
    float* p = a + (row + i) * n + column;
    store_up_to(p, load_up_to(p, n - column) + block[i], n - column);
  }
}

const float* map_of(const ContactArgs& a, int64_t head) {
  return a.probs + (head * a.len + a.skip) * a.len + a.skip;
}

}  // namespace

// The average product correction r_i r_j / total is the product of the shares r_i / sqrt(total):
// symmetric to the bit, and it does not underflow where a map puts all its weight on skipped keys.
void contact_marginals(const ContactArgs& a, int64_t head) {
  const float* map = map_of(a, head);
  float* share = a.share + head * a.size;
  float* sums = a.sums + head * a.size;
  std::memset(share, 0, static_cast<size_t>(a.size) * sizeof(float));
  for (int64_t i = 0; i < a.size; ++i) {
    vf sum{};
    for (int64_t c = 0; c < a.size; c += W) {
      const vf x = load_up_to(map + i * a.len + c, a.size - c);
      sum += x;
      store_up_to(share + c, load_up_to(share + c, a.size - c) + x, a.size - c);
    }
    sums[i] = reduce_add(sum);
  }
  double total = 0;
  for (int64_t i = 0; i < a.size; ++i) total += share[i] += sums[i];
  const float inverse = total > 0 ? static_cast<float>(1.0 / sqrt(total)) : 0.0f;
  for (int64_t i = 0; i < a.size; ++i) share[i] *= inverse;
}

// Rows [row, row + W) of the map right of the diagonal, and their mirror image.
void contact_rows(const ContactArgs& a, int64_t block) {
  const int64_t row = block * W, n = a.size;
  for (int64_t column = row; column < n; column += W) {
    vf sum[W] = {};
    for (int64_t h = 0; h < a.heads; ++h) {
      const float* map = map_of(a, h);
      const float* share = a.share + h * n;
      const vf weight = set1(a.weight[h]);
      const vf across = load_up_to(share + column, n - column);
      vf upper[W], lower[W];
      load_block(map, a.len, row, column, n, upper);
      load_block(map, a.len, column, row, n, lower);
      transpose(lower);
      for (int i = 0; i < W && row + i < n; ++i) {
        const vf s = fma(-set1(share[row + i]), across, upper[i] + lower[i]);
        sum[i] = fma(weight, s, sum[i]);
      }
    }
    add_block(a.logits, row, column, n, sum);
    if (column == row) continue;
    transpose(sum);
    add_block(a.logits, column, row, n, sum);
  }
}

int64_t contact_row_blocks(int64_t size) {
  return (size + W - 1) / W;
}

void contact_sigmoid_range(float* logits, int64_t n, float bias) {
  for (int64_t i = 0; i < n; i += W) {
    const vf x = load_up_to(logits + i, n - i) + bias;
    store_up_to(logits + i, set1(1.0f) / (vexp(-x) + 1.0f), n - i);
  }
}

}  // namespace moltide::MOLTIDE_ISA
