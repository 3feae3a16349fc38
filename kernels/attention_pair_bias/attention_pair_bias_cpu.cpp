// Queries lie along the lanes, so maxima and sums over keys are lane by lane and a head dimension
// of 8 wastes nothing. Every sum has one order: keys ascending, or queries ascending.
#include "attention_pair_bias/pair_tiles_cpu.h"
#include "device/dropout_lanes.h"

namespace moltide::MOLTIDE_ISA {
namespace {

template <class T>
const T* rows_of(const PairBiasArgs& a, const PairBiasMatrix& x, const PairBiasTask& t,
                 int64_t head) {
  return static_cast<const T*>(x.data) + t.start * x.ld + head * a.head_dim;
}
template <class T>
T* output_rows(const PairBiasArgs& a, const PairBiasMatrix& x, const PairBiasTask& t,
               int64_t head) {
  return const_cast<T*>(rows_of<T>(a, x, t, head));
}

// A plane is walked through in strides, which no hardware foresees; that of the next head lies
// behind it.
template <bool kWrite>
MOLTIDE_INLINE void prefetch_next_head(const PairBiasTask& t, const float* at) {
  __builtin_prefetch(at + t.len * t.len, kWrite, 2);
}

template <class T, class N>
void forward_block(const PairBiasArgs& a, const PairBiasTask& t, int64_t head, int64_t first, N n,
                   const float* keys, const float* values, float* lanes, float* p) {
  const int64_t d = a.head_dim, len = t.len, plane = a.heads * t.pairs + head * len * len + first;
  rows_to_lanes(rows_of<T>(a, a.q, t, head) + first * a.q.ld, a.q.ld, count_of(n), d, a.scale,
                lanes);
  vf top = set1(-__builtin_inff());
  dot_keys(keys, lanes, len, d, [&](int64_t j, vf s) MOLTIDE_INLINED {
    prefetch_next_head<false>(t, a.bias + plane + j * len);
    if (a.scores != a.bias) prefetch_next_head<true>(t, a.scores + plane + j * len);
    s += load(a.bias + plane + j * len, n);
    store(a.scores + plane + j * len, s, n);
    store(p + j * W, s);
    top = vmax(s, top);
  });
  vf sum{};
  for (int64_t j = 0; j < len; ++j) {
    const vf e = vexp_nonpositive(load(p + j * W) - top);
    store(p + j * W, e);
    sum += e;
  }
  const vf inverse = set1(1.0f) / sum;
  const int64_t row = head * a.tokens + t.start + first;
  if (a.statistics) {
    store(a.statistics + row, top, n);
    store(a.statistics + a.heads * a.tokens + row, inverse, n);
  }
  if (a.dropout > 0)
    for_kept_lanes(a.seed, a.stream, a.dropout, row, 0, len, [&](int64_t j, vi kept) {
      store(p + j * W, select(kept, load(p + j * W), vf{}));
    });
  for (int64_t c = 0; c < d; ++c) store(lanes + c * W, vf{});
  weigh_rows(values, p, len, d, lanes, W);
  const vf factor = inverse * set1(1.0f / (1.0f - a.dropout));
  for (int64_t c = 0; c < d; ++c) store(lanes + c * W, load(lanes + c * W) * factor);
  lanes_to_rows(lanes, W, 1.0f, count_of(n), d, output_rows<T>(a, a.o, t, head) + first * a.o.ld,
                a.o.ld);
}

template <class T>
void forward(const PairBiasArgs& a, const PairBiasTask& t) {
  const int64_t d = a.head_dim, len = t.len;
  float *keys, *values, *lanes, *p;
  PairCarver carver;
  for (int pass = 0; pass < 2; ++pass) {
    keys = carver.floats(len * d);
    values = carver.floats(len * d);
    lanes = carver.floats(d * W);
    p = carver.floats(len * W);
    if (pass == 0) carver.allocate();
  }
  for (int64_t head = t.begin; head < t.end; ++head) {
    widen_rows(rows_of<T>(a, a.k, t, head), a.k.ld, len, d, 1.0f, keys);
    widen_rows(rows_of<T>(a, a.v, t, head), a.v.ld, len, d, 1.0f, values);
    for_columns(len, [&](int64_t first, auto n) {
      forward_block<T>(a, t, head, first, n, keys, values, lanes, p);
    });
  }
}

struct BackwardMemory {
  float *keys, *values, *queries, *douts;  // (L, D); queries times scale
  float *dk, *dv;                          // (D, L in whole vectors), sums over queries
  float *lanes, *dq;                       // (D, W) of a block of queries
  float *p, *ds, *dropped;                 // (L in whole vectors, W); dropped: with dropout alone
  float* tile;                             // (W, W)

  BackwardMemory(const PairBiasArgs& a, int64_t len) {
    const int64_t d = a.head_dim, wide = whole_vectors(len);
    PairCarver carver;
    for (int pass = 0; pass < 2; ++pass) {
      keys = carver.floats(len * d);
      values = carver.floats(len * d);
      queries = carver.floats(len * d);
      douts = carver.floats(len * d);
      dk = carver.floats(d * wide);
      dv = carver.floats(d * wide);
      lanes = carver.floats(d * W);
      dq = carver.floats(d * W);
      p = carver.floats(wide * W);
      ds = carver.floats(wide * W);
      dropped = a.dropout > 0 ? carver.floats(wide * W) : p;
      tile = carver.floats(W * W);
      if (pass == 0) carver.allocate();
    }
    // Keys that are not there have probability 0.
    for (int64_t j = len; j < wide; ++j) {
      store(p + j * W, vf{});
      store(ds + j * W, vf{});
      store(dropped + j * W, vf{});
    }
  }
};

// sums (D, wide) += in^T rows for a block of queries: in (wide, W), a row of it a key's.
void add_transposed(const float* in, const float* rows, int64_t queries, int64_t d, int64_t wide,
                    float* tile, float* sums) {
  for (int64_t j = 0; j < wide; j += W) {
    vf block[W];
    for (int i = 0; i < W; ++i) block[i] = load(in + (j + i) * W);
    transpose(block);
    for (int i = 0; i < W; ++i) store(tile + i * W, block[i]);
    weigh_rows(rows, tile, queries, d, sums + j, wide);
  }
}

template <class T, class N>
void backward_block(const PairBiasArgs& a, const PairBiasTask& t, int64_t head, int64_t first, N n,
                    const BackwardMemory& m) {
  const int64_t d = a.head_dim, len = t.len, plane = a.heads * t.pairs + head * len * len + first;
  const int64_t row = head * a.tokens + t.start + first;
  const vf top = load(a.statistics + row, n);
  const vf inverse = load(a.statistics + a.heads * a.tokens + row, n);
  rows_to_lanes(rows_of<T>(a, a.dout, t, head) + first * a.dout.ld, a.dout.ld, count_of(n), d, 1.0f,
                m.lanes);
  vf delta{};
  dot_keys(m.values, m.lanes, len, d, [&](int64_t j, vf dp) MOLTIDE_INLINED {
    prefetch_next_head<false>(t, a.scores + plane + j * len);
    prefetch_next_head<true>(t, a.dscores + plane + j * len);
    const vf s = load(a.scores + plane + j * len, n);
    const vf p = vexp_nonpositive(s - top) * inverse;
    store(m.p + j * W, p);
    store(m.ds + j * W, dp);
    delta = fma(p, dp, delta);
  });
  if (a.dropout > 0) {
    const vf keep = set1(1.0f / (1.0f - a.dropout));
    delta = vf{};
    for_kept_lanes(a.seed, a.stream, a.dropout, row, 0, len, [&](int64_t j, vi kept) {
      const vf p = load(m.p + j * W);
      const vf dp = select(kept, load(m.ds + j * W) * keep, vf{});
      store(m.ds + j * W, dp);
      store(m.dropped + j * W, select(kept, p * keep, vf{}));
      delta = fma(p, dp, delta);
    });
  }
  for (int64_t j = 0; j < len; ++j) {
    vf ds = load(m.p + j * W) * (load(m.ds + j * W) - delta);
    float* out = a.dscores + plane + j * len;
    if (a.accumulate) ds += load(out, n);
    store(out, ds, n);
    store(m.ds + j * W, ds);
  }
  for (int64_t c = 0; c < d; ++c) store(m.dq + c * W, vf{});
  weigh_rows(m.keys, m.ds, len, d, m.dq, W);
  lanes_to_rows(m.dq, W, a.scale, count_of(n), d,
                output_rows<T>(a, a.dq, t, head) + first * a.dq.ld, a.dq.ld);
  const int64_t wide = whole_vectors(len);
  add_transposed(m.dropped, m.douts + first * d, count_of(n), d, wide, m.tile, m.dv);
  add_transposed(m.ds, m.queries + first * d, count_of(n), d, wide, m.tile, m.dk);
}

template <class T>
void backward(const PairBiasArgs& a, const PairBiasTask& t) {
  const int64_t d = a.head_dim, len = t.len, wide = whole_vectors(len);
  const BackwardMemory m(a, len);
  for (int64_t head = t.begin; head < t.end; ++head) {
    widen_rows(rows_of<T>(a, a.k, t, head), a.k.ld, len, d, 1.0f, m.keys);
    widen_rows(rows_of<T>(a, a.v, t, head), a.v.ld, len, d, 1.0f, m.values);
    widen_rows(rows_of<T>(a, a.q, t, head), a.q.ld, len, d, a.scale, m.queries);
    widen_rows(rows_of<T>(a, a.dout, t, head), a.dout.ld, len, d, 1.0f, m.douts);
    for (int64_t i = 0; i < d * wide; i += W) {
      store(m.dk + i, vf{});
      store(m.dv + i, vf{});
    }
    for_columns(len, [&](int64_t first, auto n) { backward_block<T>(a, t, head, first, n, m); });
    for (int64_t j = 0; j < len; j += W) {
      lanes_to_rows(m.dk + j, wide, 1.0f, len - j, d,
                    output_rows<T>(a, a.dk, t, head) + j * a.dk.ld, a.dk.ld);
      lanes_to_rows(m.dv + j, wide, 1.0f, len - j, d,
                    output_rows<T>(a, a.dv, t, head) + j * a.dv.ld, a.dv.ld);
    }
  }
}

}  // namespace

void attention_pair_bias_fwd_heads(const PairBiasArgs& a, const PairBiasTask& t) {
  a.bf16 ? forward<bf16>(a, t) : forward<float>(a, t);
}

void attention_pair_bias_bwd_heads(const PairBiasArgs& a, const PairBiasTask& t) {
  a.bf16 ? backward<bf16>(a, t) : backward<float>(a, t);
}

// One head's plane [key][query] of scores -> probabilities [query][key].
void attention_pair_bias_probs_head(const float* scores, int64_t len, float* probs) {
  PairCarver carver;
  float* p = nullptr;
  for (int pass = 0; pass < 2; ++pass) {
    p = carver.floats(whole_vectors(len) * W);
    if (pass == 0) carver.allocate();
  }
  for (int64_t j = len; j < whole_vectors(len); ++j) store(p + j * W, vf{});
  for_columns(len, [&](int64_t first, auto n) {
    vf top = set1(-__builtin_inff()), sum{};
    for (int64_t j = 0; j < len; ++j) top = vmax(load(scores + j * len + first, n), top);
    for (int64_t j = 0; j < len; ++j) {
      const vf e = vexp_nonpositive(load(scores + j * len + first, n) - top);
      store(p + j * W, e);
      sum += e;
    }
    const vf inverse = set1(1.0f) / sum;
    for (int64_t j = 0; j < len; j += W) {
      vf tile[W];
      for (int i = 0; i < W; ++i) tile[i] = load(p + (j + i) * W) * inverse;
      transpose(tile);
      for (int64_t i = 0; i < count_of(n); ++i)
        store_some(probs + (first + i) * len + j, tile[i], len - j);
    }
  });
}

}  // namespace moltide::MOLTIDE_ISA
