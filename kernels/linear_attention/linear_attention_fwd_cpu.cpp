// Forward: the keys of a head into S and s, a tile of rows at a time, then the queries through
// them.
#include "linear_attention/tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

struct Memory {
  float *rows, *values;  // (kTileLength, D): queries or keys; values
  float* features;       // (kTileLength, M)
  float *sums, *total;   // S (M, D), s (M)
  float* factor;         // (kTileLength): one over the normalisers

  Memory(int64_t d, int64_t m) {
    Carver carver{nullptr};
    for (int pass = 0; pass < 2; ++pass) {
      rows = carver.floats(kTileLength * d);
      values = carver.floats(kTileLength * d);
      features = carver.floats(kTileLength * m);
      sums = carver.floats(m * d);
      total = carver.floats(m);
      factor = carver.floats(kTileLength);
      if (pass == 0) carver.allocate();
    }
  }
};

template <class T>
void forward(const LinearAttentionArgs& a, const LinearAttentionHead& h) {
  const int64_t d = a.head_dim, dw = whole(d), m = a.features, mw = whole(m);
  const Memory t(dw, mw);
  const auto rows_at = [&](int64_t i) { return h.len - i < kTileLength ? h.len - i : kTileLength; };
  const auto ahead = [&](const LinearAttentionMatrix& x, int64_t i) {
    return rows_ahead(a, h, x, i, rows_at(i));
  };
  // Rows of x at i as features.
  const auto map = [&](const LinearAttentionMatrix& x, int64_t i, const Ahead& next) {
    copy_rows(head_row<T>(a, h, x, i), x.ld, rows_at(i), d, t.rows);
    product<Left::rows>(rows_at(i), mw, d, t.rows, dw, a.w_panel, mw, StorePositive{t.features, mw},
                        next);
  };
  LinearAttentionHead beside = h;
  ++beside.head;

  clear(t.sums, m * dw);
  clear(t.total, mw);
  for (int64_t i = 0; i < h.len; i += kTileLength) {
    const int64_t n = rows_at(i), next = i + n;
    map(a.k, i, ahead(a.v, i));
    copy_rows(head_row<T>(a, h, a.v, i), a.v.ld, n, d, t.values);
    product<Left::columns>(m, dw, n, t.features, mw, t.values, dw, AddTo{t.sums, dw},
                           next < h.len ? ahead(a.k, next) : ahead(a.q, 0));
    add_rows(t.features, n, mw, t.total);
  }
  for (int64_t i = 0; i < h.len; i += kTileLength) {
    const int64_t n = rows_at(i), next = i + n;
    map(a.q, i, rows_ahead(a, h, a.o, i, n, true));
    row_dots(t.features, t.total, 0, n, mw, t.factor);
    for (int64_t j = 0; j < n; j += W)
      store(t.factor + j, set1(1.0f) / at_least(load(t.factor + j), a.eps));
    product<Left::rows>(
        n, dw, m, t.features, mw, t.sums, dw,
        Result<T>{head_row<T>(a, h, a.o, i), a.o.ld, d, t.factor},
        next < h.len ? ahead(a.q, next) : rows_ahead(a, beside, a.k, 0, h.next ? rows_at(0) : 0));
  }
}

// A column of weights at a time, each of a key with all queries.
template <class T>
void probabilities(const LinearAttentionArgs& a, const LinearAttentionHead& h, float* probs) {
  const int64_t d = a.head_dim, dw = whole(d), m = a.features, mw = whole(m), rows = whole(h.len);
  float *copy = nullptr, *queries = nullptr, *keys = nullptr, *total = nullptr, *column = nullptr;
  Carver carver{nullptr};
  for (int pass = 0; pass < 2; ++pass) {
    copy = carver.floats(rows * dw);
    queries = carver.floats(rows * mw);
    keys = carver.floats(rows * mw);
    total = carver.floats(rows + mw);
    column = carver.floats(rows);
    if (pass == 0) carver.allocate();
  }
  const auto map = [&](const LinearAttentionMatrix& x, float* features) {
    copy_rows(head_row<T>(a, h, x, 0), x.ld, h.len, d, copy);
    product<Left::rows>(h.len, mw, d, copy, dw, a.w_panel, mw, StorePositive{features, mw},
                        rows_ahead(a, h, x, 0, 0));
  };
  map(a.q, queries);
  map(a.k, keys);
  float* sum = total + rows;
  clear(sum, mw);
  add_rows(keys, h.len, mw, sum);
  row_dots(queries, sum, 0, h.len, mw, total);
  for (int64_t i = 0; i < rows; i += W)
    store(total + i, set1(1.0f) / at_least(load(total + i), a.eps));
  for (int64_t key = 0; key < h.len; ++key) {
    row_dots(queries, keys + key * mw, 0, h.len, mw, column);
    for (int64_t i = 0; i < h.len; ++i) probs[i * h.len + key] = column[i] * total[i];
  }
}

}  // namespace

void linear_attention_probs_head(const LinearAttentionArgs& a, const LinearAttentionHead& head,
                                 float* probs) {
  a.bf16 ? probabilities<bf16>(a, head, probs) : probabilities<float>(a, head, probs);
}

void linear_attention_fwd_head(const LinearAttentionArgs& a, const LinearAttentionHead& head) {
  a.bf16 ? forward<bf16>(a, head) : forward<float>(a, head);
}

}  // namespace moltide::MOLTIDE_ISA
