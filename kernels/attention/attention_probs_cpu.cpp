// The probabilities of one sequence, written out: keys along the lanes, rows normalised exactly.
#include "attention/pack_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

constexpr int64_t kRows = 64;  // queries per task

// Row of n scores (exponents of 2; padded to whole vectors with -inf) to
// probabilities at `out`.
void normalise(float* s, int64_t n, float* out) {
  vf m = set1(-__builtin_inff());
  for (int64_t c = 0; c < n; c += W) m = vmax(load(s + c), m);
  const vf top = set1(reduce_max(m));
  vf sum{};
  for (int64_t c = 0; c < n; c += W) {
    vf p = exp2_nonpositive(load(s + c) - top);
    if (n - c < W) {
      store(s + c, p);
      p = load_n(s + c, n - c);
    }
    store(s + c, p);
    sum += p;
  }
  const vf inverse = set1(1.0f / reduce_add(sum));
  for (int64_t c = 0; c < n; c += W) {
    const vf p = load(s + c) * inverse;
    n - c < W ? store_n(out + c, p, n - c) : store(out + c, p);
  }
}

template <class T>
void probabilities(const AttentionArgs& a, float* probs, int64_t head, int64_t part) {
  const int64_t len = a.tokens, d = a.head_dim;
  const int64_t stride = (len + kLanes - 1) / kLanes * kLanes;
  const int64_t first = part * kRows, rows = len - first < kRows ? len - first : kRows;
  float *keys, *queries, *s;
  Carver carver{nullptr};
  for (int pass = 0; pass < 2; ++pass) {
    keys = carver.floats(d * kLanes);
    queries = carver.floats((kRows + kPadRows) * d);
    s = carver.floats((kRows + kPadRows) * stride);
    if (pass == 0) carver.allocate();
  }
  const T* q = static_cast<const T*>(a.q.data) + first * a.q.ld + head * d;
  const T* k = static_cast<const T*>(a.k.data) + head * d;
  copy_rows_doubling_last(q, a.q.ld, rows, d, queries);
  for (int64_t i = 0; i < (rows + 1) * d; ++i) queries[i] *= a.scale_log2e;
  for (int64_t key = 0; key < len; key += kLanes) {
    const int64_t left = len - key;
    const int vectors = static_cast<int>(left < kLanes ? (left + W - 1) / W : kBlockVectors);
    transpose_rows(k + key * a.k.ld, a.k.ld, left, d, 1.0f, vectors, keys);
    product<Left::rows>(even(rows), vectors, d, queries, d, keys, kLanes,
                        each_element([&](int64_t row, int v, vf x) MOLTIDE_INLINED {
                          store(s + row * stride + key + v * W, x);
                        }));
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = len; c < (len + W - 1) / W * W; ++c) s[i * stride + c] = -__builtin_inff();
    normalise(s + i * stride, len, probs + (head * len + first + i) * len);
  }
}

}  // namespace

// Item = (head, group of kRows queries); there are attention_probs_items of them.
int64_t attention_probs_items(const AttentionArgs& a) {
  return a.heads * ((a.tokens + kRows - 1) / kRows);
}

void attention_probs_item(const AttentionArgs& a, float* probs, int64_t item) {
  const int64_t parts = (a.tokens + kRows - 1) / kRows;
  a.bf16 ? probabilities<bf16>(a, probs, item / parts, item % parts)
         : probabilities<float>(a, probs, item / parts, item % parts);
}

}  // namespace moltide::MOLTIDE_ISA
