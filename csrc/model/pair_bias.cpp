#include "model/pair_bias.h"

#include <algorithm>

#include "gaussian_basis/gaussian_basis.h"
#include "mlp_act/mlp_act.h"
#include "pair_distance/pair_distance.h"
#include "pair_planes/pair_planes.h"

namespace moltide {
namespace {

PairTokens pair_tokens(const PassContext& pass) {
  const PackedBatch& b = pass.batch;
  return {b.coordinates.data(), b.tokens.data(), b.cu_seqlens.data(),
          b.pair_starts.data(), b.batch(),       static_cast<int32_t>(pass.config.vocab)};
}

GaussianBasis basis_of(const PairWeights& w) {
  return {w.mul->value,  w.bias->value, w.means->value,
          w.stds->value, w.mul->size(), w.means->size()};
}

// Features of pairs [first, first + n) and both layers of the MLP, as far as its activation.
struct Chunk {
  int64_t first, n;
  Tensor features, u, g;

  Chunk(const PairActivations& p, int64_t from)
      : first(from), n(std::min(p.chunk, p.pairs - from)) {
    features = p.features.slice_rows(0, n);
    g = p.g.slice_rows(0, n);
    if (p.u) u = p.u.slice_rows(0, n);
  }
};

Chunk compute_chunk(const PassContext& pass, const PairActivations& p, int64_t first) {
  PairWeights& w = pass.weights.pair;
  const Chunk c(p, first);
  pair_distance(pair_tokens(pass), c.first, c.n, p.distances, p.edges);
  gaussian_basis_fwd(basis_of(w), p.distances, p.edges, c.features);
  matmul(c.features, w.hidden.forward.get(*w.hidden.weight, false, 1.0f, pass.act),
         w.hidden.bias_value(), c.g, Epilogue::gelu, c.u ? &c.u : nullptr);
  return c;
}

void add_gradients(const Linear& l, const Tensor& dy, const Tensor& x) {
  if (!l.weight->grad) return;
  matmul_dw(dy, x, f32_tensor(l.weight->grad, l.out(), l.in()), l.bias->grad);
}

}  // namespace

PairActivations plan_pairs(const EncoderConfig& c, const PassShape& s, Cursor& at) {
  PairActivations p;
  if (c.attention != AttentionKind::softmax_pair_bias) return p;
  // Few enough to stay in the caches from one product to the next.
  constexpr int64_t kChunk = 2048;
  const bool backward = s.train && s.backward;
  p.pairs = s.pairs;
  p.chunk = std::min(kChunk, s.pairs);
  p.planes.step = backward ? c.heads * s.pairs : 0;
  p.planes.first = at.floats(backward ? p.planes.step * (c.layers + 1) : c.heads * s.pairs);
  if (backward) p.dplanes = at.floats(c.heads * s.pairs);
  p.planes.apart = c.pair_width > 0;
  if (c.pair_width > 0) return p;
  // Read before the first block's forward and after its backward.
  const int64_t mark = at.mark();
  p.distances = at.floats(p.chunk);
  p.edges = at.ints(p.chunk);
  p.features = at.tensor(p.chunk, c.pair_basis, s.act);
  p.g = at.tensor(p.chunk, c.pair_basis, s.act);
  p.rows = at.tensor(p.chunk, c.heads, DType::f32);
  if (backward) {
    p.u = at.tensor(p.chunk, c.pair_basis, s.act);
    p.drows = make_tensor(p.rows.data, p.chunk, c.heads, s.act);
    p.dfeatures = at.tensor(p.chunk, c.pair_basis, DType::f32);
    p.basis = at.bytes(gaussian_basis_bwd_workspace(p.chunk, c.pair_basis, c.vocab * c.vocab));
  } else {
    at.release(mark);
  }
  return p;
}

void check_pairs(const PassContext& pass) {
  if (pass.config.attention != AttentionKind::softmax_pair_bias) return;
  const PackedBatch& batch = pass.batch;
  const size_t wanted = static_cast<size_t>(3 * batch.count());
  MOLTIDE_CHECK(batch.coordinates.size() == wanted, "the model needs 3 coordinates for each of ",
                batch.count(), " tokens, got ", batch.coordinates.size(), " numbers");
  check_pair_tokens(pair_tokens(pass));
}

void pair_bias_forward(const PassContext& pass, const PairActivations& p) {
  PairWeights& w = pass.weights.pair;
  const PackedMatrix& to_heads = w.heads.forward.get(*w.heads.weight, false, 1.0f, pass.act);
  for (int64_t first = 0; first < p.pairs; first += p.chunk) {
    const Chunk c = compute_chunk(pass, p, first);
    const Tensor rows = p.rows.slice_rows(0, c.n);
    matmul(c.g, to_heads, w.heads.bias_value(), rows);
    pairs_to_planes({pass.batch.pair_starts.data(), pass.batch.batch()}, rows, c.first,
                    p.planes.bias(0));
  }
}

bool pair_bias_trained(const EncoderWeights& weights) {
  const PairWeights& w = weights.pair;
  return w.mul && (w.mul->grad || w.bias->grad || w.means->grad || w.stds->grad ||
                   w.hidden.weight->grad || w.heads.weight->grad);
}

void pair_bias_backward(const PassContext& pass, const PairActivations& p) {
  PairWeights& w = pass.weights.pair;
  const PackedMatrix& from_heads = w.heads.backward.get(*w.heads.weight, true, 1.0f, pass.act);
  const PackedMatrix& from_hidden = w.hidden.backward.get(*w.hidden.weight, true, 1.0f, pass.act);
  for (int64_t first = 0; first < p.pairs; first += p.chunk) {
    const Chunk c = compute_chunk(pass, p, first);
    const Tensor drows = p.drows.slice_rows(0, c.n);
    planes_to_pairs({pass.batch.pair_starts.data(), pass.batch.batch()}, p.dplanes, c.first, drows);
    add_gradients(w.heads, drows, c.g);
    // g is read for the last time: its gradient takes its place, then u's.
    matmul(drows, from_heads, nullptr, c.g);
    activation_bwd(Activation::gelu, c.g, c.u, c.g);
    add_gradients(w.hidden, c.g, c.features);
    const Tensor dfeatures = p.dfeatures.slice_rows(0, c.n);
    matmul(c.g, from_hidden, nullptr, dfeatures);
    gaussian_basis_bwd(basis_of(w), p.distances, p.edges, dfeatures,
                       {w.mul->grad, w.bias->grad, w.means->grad, w.stds->grad}, p.basis);
  }
}

}  // namespace moltide
