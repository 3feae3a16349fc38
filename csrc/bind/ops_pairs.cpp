// Ops on pairs of tokens (attention with a pair bias, distances, their Gaussians), for the tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "attention_pair_bias/attention_pair_bias.h"
#include "bind/op_buffer.h"
#include "gaussian_basis/gaussian_basis.h"
#include "pair_distance/pair_distance.h"
#include "pair_planes/pair_planes.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using MaybeFloats = std::optional<Floats>;
using Longs = py::array_t<int64_t, py::array::c_style>;

const float* elements(const char* name, const Floats& a, int64_t n) {
  MOLTIDE_CHECK(a.size() == n, name, ": expected ", n, " elements, got ", a.size());
  return a.data();
}

Floats copy_of(const Floats& a) {
  return Floats(a.request());
}

struct PairCase {
  PairBiasParams params;
  int64_t planes, tokens, width;
  DType dtype;

  PairCase(const Floats& q, const Ints& cu_seqlens, const Longs& pair_starts, int64_t heads,
           float scale, float dropout, uint64_t seed, uint64_t stream,
           const std::string& dtype_name)
      : dtype(op_dtype(dtype_name)) {
    MOLTIDE_CHECK(q.ndim() == 2, "q: expected 2 dimensions, got ", q.ndim());
    MOLTIDE_CHECK(heads >= 1 && q.shape(1) % heads == 0, "q: ", q.shape(1),
                  " columns are not a multiple of ", heads, " heads");
    MOLTIDE_CHECK(cu_seqlens.size() >= 1 && pair_starts.size() == cu_seqlens.size(),
                  "pair_starts: expected ", cu_seqlens.size(), " elements, got ",
                  pair_starts.size());
    tokens = q.shape(0);
    width = q.shape(1);
    params = {cu_seqlens.data(),
              pair_starts.data(),
              cu_seqlens.size() - 1,
              heads,
              width / heads,
              scale,
              dropout,
              seed,
              stream};
    planes = heads * pair_starts.data()[params.batch];
  }
};

py::tuple attention_pair_bias_fwd_op(const Floats& q, const Floats& k, const Floats& v,
                                     const Floats& bias, const Ints& cu_seqlens,
                                     const Longs& pair_starts, int64_t heads, float scale,
                                     float dropout, uint64_t seed, uint64_t stream,
                                     const std::string& dtype, int64_t pad, bool in_place) {
  const PairCase c(q, cu_seqlens, pair_starts, heads, scale, dropout, seed, stream, dtype);
  OpBuffer qs(q, c.dtype, pad), ks(k, c.dtype, pad), vs(v, c.dtype, pad);
  OpBuffer o(c.tokens, c.width, c.dtype, pad);
  elements("bias", bias, c.planes);
  Floats statistics({int64_t{2}, heads, c.tokens});
  OpBuffer planes(1, c.planes, DType::f32, 0);
  if (in_place) std::copy_n(bias.data(), c.planes, planes.tensor().f32());
  const float* from = in_place ? planes.tensor().f32() : bias.data();
  float* to = statistics.mutable_data();
  {
    py::gil_scoped_release release;
    attention_pair_bias_fwd(c.params, qs.tensor(), ks.tensor(), vs.tensor(), from, o.tensor(),
                            planes.tensor().f32(), to);
  }
  return py::make_tuple(o.numpy(), planes.numpy().reshape({c.planes}), statistics);
}

py::tuple attention_pair_bias_bwd_op(const Floats& dout, const Floats& q, const Floats& k,
                                     const Floats& v, const Floats& scores,
                                     const Floats& statistics, const MaybeFloats& dscores,
                                     const Ints& cu_seqlens, const Longs& pair_starts,
                                     int64_t heads, float scale, float dropout, uint64_t seed,
                                     uint64_t stream, const std::string& dtype, int64_t pad) {
  const PairCase c(q, cu_seqlens, pair_starts, heads, scale, dropout, seed, stream, dtype);
  OpBuffer ds(dout, c.dtype, pad), qs(q, c.dtype, pad), ks(k, c.dtype, pad), vs(v, c.dtype, pad);
  OpBuffer dq(c.tokens, c.width, c.dtype, pad), dk(c.tokens, c.width, c.dtype, pad);
  OpBuffer dv(c.tokens, c.width, c.dtype, pad);
  const float* s = elements("scores", scores, c.planes);
  const float* rows = elements("statistics", statistics, 2 * heads * c.tokens);
  OpBuffer planes(1, c.planes, DType::f32, 0);
  if (dscores)
    std::copy_n(elements("dscores", *dscores, c.planes), c.planes, planes.tensor().f32());
  {
    py::gil_scoped_release release;
    attention_pair_bias_bwd(c.params, ds.tensor(), qs.tensor(), ks.tensor(), vs.tensor(), s, rows,
                            dq.tensor(), dk.tensor(), dv.tensor(), planes.tensor().f32(),
                            dscores.has_value());
  }
  return py::make_tuple(dq.numpy(), dk.numpy(), dv.numpy(), planes.numpy().reshape({c.planes}));
}

Floats attention_pair_bias_probs_op(const Floats& scores) {
  MOLTIDE_CHECK(scores.ndim() == 3 && scores.shape(1) == scores.shape(2),
                "scores: expected shape (H, L, L)");
  Floats probs({scores.shape(0), scores.shape(1), scores.shape(1)});
  attention_pair_bias_probs(scores.data(), scores.shape(0), scores.shape(1), probs.mutable_data());
  return probs;
}

GaussianBasis basis_of(const Floats& mul, const Floats& bias, const Floats& means,
                       const Floats& stds) {
  return {mul.data(),   elements("bias", bias, mul.size()),
          means.data(), elements("stds", stds, means.size()),
          mul.size(),   means.size()};
}

Floats gaussian_basis_fwd_op(const Floats& distances, const Ints& edges, const Floats& mul,
                             const Floats& bias, const Floats& means, const Floats& stds,
                             const std::string& dtype, int64_t pad) {
  const GaussianBasis basis = basis_of(mul, bias, means, stds);
  MOLTIDE_CHECK(edges.size() == distances.size(), "edges: expected ", distances.size(),
                " elements, got ", edges.size());
  OpBuffer y(distances.size(), basis.basis, op_dtype(dtype), pad);
  gaussian_basis_fwd(basis, distances.data(), edges.data(), y.tensor());
  return y.numpy();
}

py::tuple gaussian_basis_bwd_op(const Floats& dy, const Floats& distances, const Ints& edges,
                                const Floats& mul, const Floats& bias, const Floats& means,
                                const Floats& stds, const MaybeFloats& dmul,
                                const MaybeFloats& dbias, const MaybeFloats& dmeans,
                                const MaybeFloats& dstds, const std::string& dtype, int64_t pad) {
  const GaussianBasis basis = basis_of(mul, bias, means, stds);
  OpBuffer d(dy, op_dtype(dtype), pad);
  const int64_t pairs = d.tensor().rows;
  elements("distances", distances, pairs);
  MOLTIDE_CHECK(edges.size() == pairs, "edges: expected ", pairs, " elements, got ", edges.size());
  MaybeFloats out[4];
  GaussianBasisGradients gradients{};
  const MaybeFloats* in[4] = {&dmul, &dbias, &dmeans, &dstds};
  float** to[4] = {&gradients.mul, &gradients.bias, &gradients.means, &gradients.stds};
  for (int i = 0; i < 4; ++i) {
    if (!*in[i]) continue;
    elements("gradient", **in[i], i < 2 ? basis.edge_types : basis.basis);
    out[i] = copy_of(**in[i]);
    *to[i] = out[i]->mutable_data();
  }
  std::vector<double> workspace(static_cast<size_t>(
      gaussian_basis_bwd_workspace(pairs, basis.basis, basis.edge_types) / 8 + 1));
  gaussian_basis_bwd(basis, distances.data(), edges.data(), d.tensor(), gradients,
                     workspace.data());
  return py::make_tuple(out[0], out[1], out[2], out[3]);
}

Floats pairs_to_planes_op(const Floats& rows, int64_t first, const Longs& pair_starts,
                          const Floats& planes, const std::string& dtype, int64_t pad) {
  OpBuffer in(rows, op_dtype(dtype), pad);
  MOLTIDE_CHECK(pair_starts.size() >= 1, "pair_starts: expected at least 1 element");
  const int64_t batch = pair_starts.size() - 1;
  const int64_t size = in.tensor().cols * pair_starts.data()[batch];
  elements("planes", planes, size);
  OpBuffer out(1, size, DType::f32, 0);
  std::copy_n(planes.data(), size, out.tensor().f32());
  pairs_to_planes({pair_starts.data(), batch}, in.tensor(), first, out.tensor().f32());
  return out.numpy().reshape({size});
}

Floats planes_to_pairs_op(const Floats& planes, int64_t first, int64_t count, int64_t heads,
                          const Longs& pair_starts, const std::string& dtype, int64_t pad) {
  MOLTIDE_CHECK(pair_starts.size() >= 1, "pair_starts: expected at least 1 element");
  const int64_t batch = pair_starts.size() - 1;
  elements("planes", planes, heads * pair_starts.data()[batch]);
  OpBuffer rows(count, heads, op_dtype(dtype), pad);
  planes_to_pairs({pair_starts.data(), batch}, planes.data(), first, rows.tensor());
  return rows.numpy();
}

py::tuple pair_distance_op(const Floats& coordinates, const Ints& tokens, const Ints& cu_seqlens,
                           const Longs& pair_starts, int32_t vocabulary, int64_t first,
                           int64_t count) {
  MOLTIDE_CHECK(cu_seqlens.size() >= 1 && pair_starts.size() == cu_seqlens.size(),
                "pair_starts: expected ", cu_seqlens.size(), " elements, got ", pair_starts.size());
  elements("coordinates", coordinates, 3 * tokens.size());
  const PairTokens t{coordinates.data(), tokens.data(),         cu_seqlens.data(),
                     pair_starts.data(), cu_seqlens.size() - 1, vocabulary};
  check_pair_tokens(t);
  Floats distances(count);
  Ints edges(count);
  pair_distance(t, first, count, distances.mutable_data(), edges.mutable_data());
  return py::make_tuple(distances, edges);
}

}  // namespace

void bind_ops_pairs(py::module_& ops) {
  using py::arg;
  ops.def("attention_pair_bias_fwd", &attention_pair_bias_fwd_op, arg("q"), arg("k"), arg("v"),
          arg("bias"), arg("cu_seqlens"), arg("pair_starts"), arg("heads"), arg("scale"),
          arg("dropout") = 0.0f, arg("seed") = 0, arg("stream") = 0, arg("dtype") = "float32",
          arg("pad") = 0, arg("in_place") = false,
          "q, k, v (T, H*D), bias (planes) -> o (T, H*D), scores (planes), statistics (2, H, T)");
  ops.def("attention_pair_bias_bwd", &attention_pair_bias_bwd_op, arg("dout"), arg("q"), arg("k"),
          arg("v"), arg("scores"), arg("statistics"), arg("dscores").none(true), arg("cu_seqlens"),
          arg("pair_starts"), arg("heads"), arg("scale"), arg("dropout") = 0.0f, arg("seed") = 0,
          arg("stream") = 0, arg("dtype") = "float32", arg("pad") = 0,
          "-> dq, dk, dv (T, H*D), gradient of the bias (planes)");
  ops.def("attention_pair_bias_probs", &attention_pair_bias_probs_op, arg("scores"),
          "scores (H, keys, queries) -> probabilities (H, queries, keys)");
  ops.def("gaussian_basis_fwd", &gaussian_basis_fwd_op, arg("distances"), arg("edges"), arg("mul"),
          arg("bias"), arg("means"), arg("stds"), arg("dtype") = "float32", arg("pad") = 0,
          "distances, edges (P) -> (P, K)");
  ops.def("gaussian_basis_bwd", &gaussian_basis_bwd_op, arg("dy"), arg("distances"), arg("edges"),
          arg("mul"), arg("bias"), arg("means"), arg("stds"), arg("dmul") = py::none(),
          arg("dbias") = py::none(), arg("dmeans") = py::none(), arg("dstds") = py::none(),
          arg("dtype") = "float32", arg("pad") = 0,
          "-> the gradients given, with what this adds to them");
  ops.def("pairs_to_planes", &pairs_to_planes_op, arg("rows"), arg("first"), arg("pair_starts"),
          arg("planes"), arg("dtype") = "float32", arg("pad") = 0,
          "rows (N, H) into the planes of all sequences");
  ops.def("planes_to_pairs", &planes_to_pairs_op, arg("planes"), arg("first"), arg("count"),
          arg("heads"), arg("pair_starts"), arg("dtype") = "float32", arg("pad") = 0,
          "planes -> rows (N, H)");
  ops.def("pair_distance", &pair_distance_op, arg("coordinates"), arg("tokens"), arg("cu_seqlens"),
          arg("pair_starts"), arg("vocabulary"), arg("first"), arg("count"),
          "-> distances (N) float32, edge types (N) int32");
}
