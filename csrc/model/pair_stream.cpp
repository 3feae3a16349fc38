#include "model/pair_stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "embedding_sum/embedding_sum.h"
#include "gaussian_basis/gaussian_basis.h"
#include "mlp_act/mlp_act.h"
#include "model/norms.h"
#include "model/pair_linear.h"
#include "pair_distance/pair_distance.h"
#include "pair_planes/pair_planes.h"
#include "residual/residual.h"

namespace moltide {
namespace {

constexpr int64_t kTypes = 128;  // of an atom, as the edges' factors tell them apart
constexpr int64_t kBonds = 3;    // categories of a bond, whose mean describes it
// Where the two atoms' types begin in the tables of factors and offsets.
constexpr int64_t kFirstType = 1, kSecondType = 1 + kTypes;

Tensor values_of(const Param* p) {
  return f32_tensor(p->value, p->shape[0], p->shape[1]);
}
Tensor gradients_of(const Param* p) {
  return f32_tensor(p->grad, p->shape[0], p->shape[1]);
}

CategoryIds token_ids(const PackedBatch& b, int64_t first, int64_t count) {
  return {b.token_ids.data() + first, kTokenCategories, count};
}
CategoryIds pair_ids(const PackedBatch& b, int64_t row, int64_t first, int64_t count) {
  return {b.pair_ids.data() + row * kPairCategories + first, kPairCategories, count};
}

// Factors and offsets of edges of two types, out of those of either; how far Gaussians reach.
void fill_tables(const PassContext& pass, const PairStream& s) {
  const PairStreamWeights& w = pass.weights.pair_stream;
  for (int64_t i = 0; i < kTypes; ++i)
    for (int64_t j = 0; j < kTypes; ++j) {
      const int64_t first = kFirstType + i, second = kSecondType + j;
      s.mul[i * kTypes + j] = std::fabs(w.mul->value[first]) + std::fabs(w.mul->value[second]);
      s.bias[i * kTypes + j] = w.bias->value[first] + w.bias->value[second];
    }
  // The op adds 1e-5 to the width, which is the distance between neighbours here.
  const float width = w.means->value[1] - w.means->value[0];
  std::fill_n(s.stds, pass.config.pair_basis, width - 1e-5f);
  for (int64_t t = 0; t < pass.batch.count(); ++t)
    s.types[t] = std::max<int32_t>(0, pass.batch.token_ids[t * kTokenCategories]);
}

GaussianBasis basis_of(const PassContext& pass, const PairStream& s) {
  return {s.mul,  s.bias,          pass.weights.pair_stream.means->value,
          s.stds, kTypes * kTypes, pass.config.pair_basis};
}

// Pairs [first, first + n) of one sequence, whole rows of one key each.
struct Rows {
  int64_t first, n, length;
};

template <class F>
void for_rows(const PassContext& pass, const PairStream& s, int64_t b, F f) {
  const int64_t length = pass.batch.cu_seqlens[b + 1] - pass.batch.cu_seqlens[b];
  const int64_t begin = pass.batch.pair_starts[b], end = pass.batch.pair_starts[b + 1];
  const int64_t step = std::max<int64_t>(1, s.chunk / std::max<int64_t>(1, length)) * length;
  for (int64_t first = begin; first < end; first += step)
    f(Rows{first, std::min(step, end - first), length});
}

// Rows of pairs whose tokens are both atoms: f(first row, after the last), counted from rows.first.
template <class F>
void for_atoms(const PassContext& pass, int64_t b, const Rows& rows, F f) {
  for (int64_t at = 0; at < rows.n; at += rows.length)
    if (rows.first + at > pass.batch.pair_starts[b]) f(at + 1, at + rows.length);
}

// Gaussians of these pairs' distances, and the MLP's inner layer.
void compute_inner(const PassContext& pass, const PairStream& s, const Rows& r, bool keep) {
  PairStreamWeights& w = pass.weights.pair_stream;
  const PackedBatch& b = pass.batch;
  const PairTokens tokens{b.coordinates.data(), s.types,   b.cu_seqlens.data(),
                          b.pair_starts.data(), b.batch(), static_cast<int32_t>(kTypes)};
  pair_distance(tokens, r.first, r.n, s.distances, s.edges);
  const Tensor features = s.features.slice_rows(0, r.n), inner = s.inner.slice_rows(0, r.n);
  gaussian_basis_fwd(basis_of(pass, s), s.distances, s.edges, features);
  const Tensor pre = keep ? s.inner_u.slice_rows(0, r.n) : Tensor{};
  matmul(features, forward_of(pass, w.hidden), w.hidden.bias_value(), inner, Epilogue::gelu,
         keep ? &pre : nullptr);
}

// The pairs of sequence b before the norm, in z (its rows).
void embed_sequence(const PassContext& pass, const PairStream& s, int64_t b, const Tensor& z) {
  PairStreamWeights& w = pass.weights.pair_stream;
  const int64_t row = pass.batch.pair_starts[b];
  std::memset(z.data, 0, static_cast<size_t>(z.rows * z.cols) * sizeof(float));
  embedding_sum_fwd(pair_ids(pass.batch, row, 0, 1), 1.0f, values_of(w.paths), z);
  embedding_sum_fwd(pair_ids(pass.batch, row, 1, kBonds), 1.0f / kBonds, values_of(w.bonds), z);
  embedding_sum_fwd(pair_ids(pass.batch, row, 1 + kBonds, 1), 1.0f, values_of(w.virtual_pair), z);
  for_rows(pass, s, b, [&](const Rows& r) {
    compute_inner(pass, s, r, false);
    const Tensor out = s.chunk_rows.slice_rows(0, r.n);
    matmul(s.inner.slice_rows(0, r.n), forward_of(pass, w.out), w.out.bias_value(), out);
    for_atoms(pass, b, r, [&](int64_t begin, int64_t end) {
      residual_add(z.slice_rows(r.first - row + begin, r.first - row + end),
                   out.slice_rows(begin, end), 1.0f);
    });
  });
}

void embed_sequence_backward(const PassContext& pass, const PairStream& s, int64_t b,
                             const Tensor& dz) {
  PairStreamWeights& w = pass.weights.pair_stream;
  const int64_t row = pass.batch.pair_starts[b];
  if (w.paths->grad) {
    embedding_sum_bwd(pair_ids(pass.batch, row, 0, 1), 1.0f, dz, gradients_of(w.paths));
    embedding_sum_bwd(pair_ids(pass.batch, row, 1, kBonds), 1.0f / kBonds, dz,
                      gradients_of(w.bonds));
    embedding_sum_bwd(pair_ids(pass.batch, row, 1 + kBonds, 1), 1.0f, dz,
                      gradients_of(w.virtual_pair));
  }
  for_rows(pass, s, b, [&](const Rows& r) {
    compute_inner(pass, s, r, true);
    const Tensor d = s.chunk_act.slice_rows(0, r.n), inner = s.inner.slice_rows(0, r.n);
    std::memset(d.data, 0, static_cast<size_t>(d.rows * d.cols * dtype_bytes(d.dtype)));
    for_atoms(pass, b, r, [&](int64_t begin, int64_t end) {
      copy_cast(dz.slice_rows(r.first - row + begin, r.first - row + end),
                d.slice_rows(begin, end));
    });
    add_gradients(w.out, d, inner);
    // The inner layer is read for the last time: its gradient takes its place, then u's.
    matmul(d, backward_of(pass, w.out), nullptr, inner);
    activation_bwd(Activation::gelu, inner, s.inner_u.slice_rows(0, r.n), inner);
    add_gradients(w.hidden, inner, s.features.slice_rows(0, r.n));
    const Tensor dfeatures = s.dfeatures.slice_rows(0, r.n);
    matmul(inner, backward_of(pass, w.hidden), nullptr, dfeatures);
    gaussian_basis_bwd(basis_of(pass, s), s.distances, s.edges, dfeatures,
                       {s.dmul, s.dbias, nullptr, nullptr}, s.basis);
  });
}

}  // namespace

void check_pair_stream(const PassContext& pass) {
  if (pass.config.pair_width == 0) return;
  const PackedBatch& b = pass.batch;
  const size_t tokens = static_cast<size_t>(b.count()),
               pairs = static_cast<size_t>(b.shape().pairs);
  MOLTIDE_CHECK(b.token_ids.size() == tokens * kTokenCategories &&
                    b.pair_ids.size() == pairs * kPairCategories,
                "the model needs ", kTokenCategories, " categories for each of ", tokens,
                " tokens and ", kPairCategories, " for each of ", pairs, " pairs, got ",
                b.token_ids.size(), " and ", b.pair_ids.size(), " numbers");
  check_categories(b.token_ids.data(), tokens);
}

void check_categories(const int16_t* token_ids, size_t tokens) {
  for (size_t t = 0; t < tokens; ++t) {
    const int16_t type = token_ids[t * kTokenCategories];
    MOLTIDE_CHECK(type >= -1 && type < kTypes, "category 0 of token ", t, " is ", type,
                  ", allowed: -1 to ", kTypes - 1);
  }
}

void describe_tokens(const PassContext& pass, const Tensor& x) {
  const PairStreamWeights& w = pass.weights.pair_stream;
  embedding_sum_fwd(token_ids(pass.batch, 0, 8), 1.0f, values_of(w.atoms), x);
  embedding_sum_fwd(token_ids(pass.batch, 8, 1), 1.0f, values_of(w.degrees), x);
  embedding_sum_fwd(token_ids(pass.batch, 9, 1), 1.0f, values_of(w.virtual_token), x);
}

void describe_tokens_backward(const PassContext& pass, const Tensor& dx) {
  const EncoderWeights& weights = pass.weights;
  const PairStreamWeights& w = weights.pair_stream;
  if (!w.atoms->grad) return;
  embedding_sum_bwd(token_ids(pass.batch, 0, 8), 1.0f, dx, gradients_of(w.atoms));
  embedding_sum_bwd(token_ids(pass.batch, 8, 1), 1.0f, dx, gradients_of(w.degrees));
  embedding_sum_bwd(token_ids(pass.batch, 9, 1), 1.0f, dx, gradients_of(w.virtual_token));
  // The first token has no id of its own: the padding's row stays as it is.
  const int64_t width = pass.config.width;
  if (weights.tokens->grad)
    std::memset(weights.tokens->grad + pass.config.pad_token * width, 0,
                static_cast<size_t>(width) * sizeof(float));
}

void pair_stream_embed(const PassContext& pass, const PairStream& s) {
  fill_tables(pass, s);
  for (int64_t b = 0; b < pass.batch.batch(); ++b) {
    const Tensor z = s.at(0, pass.batch.pair_starts[b], pass.batch.pair_starts[b + 1]);
    if (z.rows == 0) continue;
    embed_sequence(pass, s, b, z);
    norm_forward(pass.weights.pair_stream.norm, z, z);
  }
}

void pair_stream_embed_backward(const PassContext& pass, const PairStream& s) {
  PairStreamWeights& w = pass.weights.pair_stream;
  if (!w.norm.weight->grad) return;
  std::memset(s.dmul, 0, kTypes * kTypes * sizeof(float));
  std::memset(s.dbias, 0, kTypes * kTypes * sizeof(float));
  for (int64_t b = 0; b < pass.batch.batch(); ++b) {
    const int64_t begin = pass.batch.pair_starts[b], end = pass.batch.pair_starts[b + 1];
    if (begin == end) continue;
    const Tensor z = s.z1.slice_rows(0, end - begin), dz = s.gradient(begin, end);
    embed_sequence(pass, s, b, z);
    norm_forward(w.norm, z, s.z2.slice_rows(0, end - begin), s.mean, s.rstd);
    norm_backward(w.norm, dz, z, s.mean, s.rstd, dz, false);
    embed_sequence_backward(pass, s, b, dz);
  }
  for (int64_t i = 0; i < kTypes; ++i)
    for (int64_t j = 0; j < kTypes; ++j)
      for (const int64_t at : {kFirstType + i, kSecondType + j}) {
        const float d = s.dmul[i * kTypes + j];
        w.mul->grad[at] += w.mul->value[at] < 0 ? -d : w.mul->value[at] > 0 ? d : 0.0f;
        w.bias->grad[at] += s.dbias[i * kTypes + j];
      }
}

void pair_stream_bias(const PassContext& pass, int64_t layer, const PairStream& s,
                      const PairPlanes& planes) {
  Linear& bias = pass.weights.pair_layers[layer].bias;
  const PairPlaces places{pass.batch.pair_starts.data(), pass.batch.batch()};
  const int64_t pairs = pass.batch.shape().pairs;
  for (int64_t first = 0; first < pairs; first += s.chunk) {
    const int64_t end = std::min(first + s.chunk, pairs);
    const Tensor rows = s.bias_rows.slice_rows(0, end - first);
    matmul(as_act(s.at(layer, first, end), s.chunk_act), forward_of(pass, bias), bias.bias_value(),
           rows);
    pairs_to_planes(places, rows, first, planes.bias(layer));
  }
}

void pair_stream_bias_backward(const PassContext& pass, int64_t layer, const PairStream& s,
                               const float* dplanes) {
  Linear& bias = pass.weights.pair_layers[layer].bias;
  const PairPlaces places{pass.batch.pair_starts.data(), pass.batch.batch()};
  const int64_t pairs = pass.batch.shape().pairs;
  for (int64_t first = 0; first < pairs; first += s.chunk) {
    const int64_t end = std::min(first + s.chunk, pairs);
    const Tensor d = make_tensor(s.bias_rows.data, end - first, bias.out(), pass.act);
    planes_to_pairs(places, dplanes, first, d);
    if (bias.weight->grad) add_gradients(bias, d, as_act(s.at(layer, first, end), s.chunk_act));
    matmul(d, backward_of(pass, bias), nullptr, s.gradient(first, end), Epilogue::accumulate);
  }
}

}  // namespace moltide
