// Backward. With n_i the normaliser, c_i = 1 / max(n_i, eps), and phi the features of a row:
//   g_i = S do_i;  dn_i = -c_i^2 phi(q_i) . g_i, or 0 where n_i < eps
//   dphi(q_i) = c_i g_i + dn_i s;  dS = sum_i c_i phi(q_i)^T do_i;  ds = sum_i dn_i phi(q_i)
//   dv_j = phi(k_j) dS;  dphi(k_j) = dS v_j + ds
// and the gradient of a row is that of its features, where they are positive, times w^T. S and dS
// are summed as their transposes, (D, M): their rows then go along with features.
#include "linear_attention/tiles_cpu.h"

namespace moltide::MOLTIDE_ISA {
namespace {

struct Memory {
  float *keys, *values;     // (kTileLength, D)
  float *queries, *dout;    // (kTileLength, D)
  float *fk, *fq, *df;      // (kTileLength, M): features of keys, of queries, a gradient of either
  float *sums_t, *dsums_t;  // S and dS, transposed (D, M)
  float* dsums;             // dS (M, D)
  float *total, *dtotal;    // s, ds (M)
  float *normaliser, *along;  // (kTileLength): c; dn, at first phi . g

  Memory(int64_t d, int64_t m) {
    Carver carver{nullptr};
    for (int pass = 0; pass < 2; ++pass) {
      keys = carver.floats(kTileLength * d);
      values = carver.floats(kTileLength * d);
      queries = carver.floats(kTileLength * d);
      dout = carver.floats(kTileLength * d);
      fk = carver.floats(kTileLength * m);
      fq = carver.floats(kTileLength * m);
      df = carver.floats(kTileLength * m);
      sums_t = carver.floats(d * m);
      dsums_t = carver.floats(d * m);
      dsums = carver.floats(d * m);
      total = carver.floats(m);
      dtotal = carver.floats(m);
      normaliser = carver.floats(kTileLength);
      along = carver.floats(kTileLength);
      if (pass == 0) carver.allocate();
    }
  }
};

// From c, n and phi . g to dn.
void normaliser_gradients(const Memory& t, int64_t n, float eps) {
  for (int64_t i = 0; i < n; i += W) {
    const vf sum = load(t.normaliser + i), c = set1(1.0f) / at_least(sum, eps);
    store(t.normaliser + i, c);
    store(t.along + i, select(sum < set1(eps), vf{}, -(load(t.along + i) * c) * c));
  }
}

// df = gradient of the queries' features (where these are positive) from g; fq = c * fq;
// ds += dn * fq.
void query_features(const Memory& t, int64_t n, int64_t m) {
  for (int64_t col = 0; col < m; col += W) {
    const vf total = load(t.total + col);
    vf sums[4] = {};
    const auto row = [&](int64_t i, vf& sum) {
      const vf c = set1(t.normaliser[i]), dn = set1(t.along[i]);
      float *feature = t.fq + i * m + col, *gradient = t.df + i * m + col;
      const vf f = load(feature), g = fma(dn, total, c * load(gradient));
      store(gradient, select(f > vf{}, g, vf{}));
      store(feature, c * f);
      sum = fma(dn, f, sum);
    };
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int j = 0; j < 4; ++j) row(i + j, sums[j]);
    for (; i < n; ++i) row(i, sums[0]);
    store(t.dtotal + col, load(t.dtotal + col) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
  }
}

// df = df + ds where the keys' features are positive, else 0.
void key_features(const Memory& t, int64_t n, int64_t m) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t col = 0; col < m; col += W) {
      float* gradient = t.df + i * m + col;
      const vf g = load(gradient) + load(t.dtotal + col);
      store(gradient, select(load(t.fk + i * m + col) > vf{}, g, vf{}));
    }
}

template <class T>
void backward(const LinearAttentionArgs& a, const LinearAttentionHead& h) {
  const int64_t d = a.head_dim, dw = whole(d), m = a.features, mw = whole(m);
  const Memory t(dw, mw);
  const auto rows_at = [&](int64_t i) { return h.len - i < kTileLength ? h.len - i : kTileLength; };
  const auto ahead = [&](const LinearAttentionMatrix& x, int64_t i, bool write = false) {
    return rows_ahead(a, h, x, i, rows_at(i), write);
  };
  const auto copy = [&](const LinearAttentionMatrix& x, int64_t i, float* to) {
    copy_rows(head_row<T>(a, h, x, i), x.ld, rows_at(i), d, to);
  };
  const auto map = [&](const float* rows, int64_t n, float* features, const Ahead& next) {
    product<Left::rows>(n, mw, d, rows, dw, a.w_panel, mw, StorePositive{features, mw}, next);
  };
  const auto result = [&](const LinearAttentionMatrix& x, int64_t i) {
    return Result<T>{head_row<T>(a, h, x, i), x.ld, d, nullptr};
  };
  const auto read_keys = [&](int64_t i) {
    copy(a.k, i, t.keys);
    map(t.keys, rows_at(i), t.fk, ahead(a.v, i));
    copy(a.v, i, t.values);
  };
  LinearAttentionHead beside = h;
  ++beside.head;

  clear(t.sums_t, dw * mw);
  clear(t.dsums_t, dw * mw);
  clear(t.total, mw);
  clear(t.dtotal, mw);
  for (int64_t i = 0; i < h.len; i += kTileLength) {
    const int64_t n = rows_at(i), next = i + n;
    read_keys(i);
    product<Left::columns>(d, mw, n, t.values, dw, t.fk, mw, AddTo{t.sums_t, mw},
                           next < h.len ? ahead(a.k, next) : ahead(a.q, 0));
    add_rows(t.fk, n, mw, t.total);
  }
  for (int64_t i = 0; i < h.len; i += kTileLength) {
    const int64_t n = rows_at(i), next = i + n;
    copy(a.q, i, t.queries);
    map(t.queries, n, t.fq, ahead(a.dout, i));
    copy(a.dout, i, t.dout);
    product<Left::rows>(n, mw, d, t.dout, dw, t.sums_t, mw, Store{t.df, mw}, ahead(a.dq, i, true));
    row_dots(t.fq, t.total, 0, n, mw, t.normaliser);
    row_dots(t.fq, t.df, mw, n, mw, t.along);
    normaliser_gradients(t, n, a.eps);
    query_features(t, n, mw);
    product<Left::rows>(n, dw, m, t.df, mw, a.wt_panel, dw, result(a.dq, i),
                        next < h.len ? ahead(a.q, next) : ahead(a.k, 0));
    product<Left::columns>(d, mw, n, t.dout, dw, t.fq, mw, AddTo{t.dsums_t, mw},
                           ahead(a.dv, 0, true));
  }
  transpose_matrix(t.dsums_t, dw, mw, t.dsums);
  for (int64_t i = 0; i < h.len; i += kTileLength) {
    const int64_t n = rows_at(i), next = i + n;
    if (h.len > kTileLength) read_keys(i);  // else they are at hand
    product<Left::rows>(n, dw, m, t.fk, mw, t.dsums, dw, result(a.dv, i), ahead(a.dk, i, true));
    product<Left::rows>(
        n, mw, d, t.values, dw, t.dsums_t, mw, Store{t.df, mw},
        next < h.len ? ahead(a.k, next) : rows_ahead(a, beside, a.k, 0, h.next ? rows_at(0) : 0));
    key_features(t, n, mw);
    product<Left::rows>(n, dw, m, t.df, mw, a.wt_panel, dw, result(a.dk, i),
                        next < h.len ? ahead(a.dv, next, true)
                                     : rows_ahead(a, beside, a.v, 0, h.next ? rows_at(0) : 0));
  }
}

}  // namespace

void linear_attention_pack(const LinearAttentionArgs& a) {
  const int64_t d = a.head_dim, dw = whole(d), mw = whole(a.features);
  clear(a.w_panel, dw * mw);
  copy_rows(a.w, a.features, d, a.features, a.w_panel);
  if (a.wt_panel) transpose_matrix(a.w_panel, dw, mw, a.wt_panel);
}

void linear_attention_bwd_head(const LinearAttentionArgs& a, const LinearAttentionHead& head) {
  a.bf16 ? backward<bf16>(a, head) : backward<float>(a, head);
}

}  // namespace moltide::MOLTIDE_ISA
