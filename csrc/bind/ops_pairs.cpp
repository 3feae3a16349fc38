// Ops on pairs of tokens (attention with a pair bias, distances, their Gaussians), for the tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "attention_pair_bias/attention_pair_bias.h"
#include "bind/op_buffer.h"
#include "embedding_sum/embedding_sum.h"
#include "gate/gate.h"
#include "gaussian_basis/gaussian_basis.h"
#include "pair_distance/pair_distance.h"
#include "pair_planes/pair_planes.h"
#include "triangle_product/triangle_product.h"

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

void same_planes(const char* name, const Floats& x, const Floats& a) {
  MOLTIDE_CHECK(x.ndim() == 3 && x.shape(1) == x.shape(2), name, ": expected shape (C, L, L)");
  MOLTIDE_CHECK(x.shape(0) == a.shape(0) && x.shape(1) == a.shape(1), name,
                ": expected the shape of a");
}

Floats triangle_product_fwd_op(const Floats& a, const Floats& b) {
  same_planes("a", a, a);
  same_planes("b", b, a);
  Floats x({a.shape(0), a.shape(1), a.shape(1)});
  triangle_product_fwd(a.data(), b.data(), a.shape(0), a.shape(1), x.mutable_data());
  return x;
}

py::tuple triangle_product_bwd_op(const Floats& dx, const Floats& a, const Floats& b,
                                  bool in_place) {
  same_planes("a", a, a);
  same_planes("b", b, a);
  same_planes("dx", dx, a);
  Floats da(a.request()), db(b.request());
  const float* from_a = in_place ? da.data() : a.data();
  const float* from_b = in_place ? db.data() : b.data();
  triangle_product_bwd(dx.data(), from_a, from_b, a.shape(0), a.shape(1), da.mutable_data(),
                       db.mutable_data());
  return py::make_tuple(da, db);
}

Gate gate_kind(const std::string& kind) {
  MOLTIDE_CHECK(kind == "sigmoid" || kind == "linear", "kind: got '", kind,
                "', allowed: sigmoid, linear");
  return kind == "sigmoid" ? Gate::sigmoid : Gate::linear;
}

Floats gate_fwd_op(const Floats& x, const Floats& g, const std::string& kind, float scale,
                   const std::string& dtype, int64_t pad) {
  OpBuffer in(x, DType::f32, pad), gates(g, DType::f32, pad);
  OpBuffer y(in.tensor().rows, in.tensor().cols, op_dtype(dtype), pad);
  Tensor by = gates.tensor();
  if (by.rows == 1 && in.tensor().rows != 1) by.ld = 0;
  gate_fwd(gate_kind(kind), in.tensor(), by, scale, y.tensor());
  return y.numpy();
}

py::tuple gate_bwd_op(const Floats& dy, const Floats& x, const Floats& g, const std::string& kind,
                      float scale, const std::string& dtype, int64_t pad) {
  OpBuffer d(dy, DType::f32, pad), in(x, DType::f32, pad), gates(g, DType::f32, pad);
  const int64_t rows = in.tensor().rows, cols = in.tensor().cols;
  OpBuffer dx(rows, cols, op_dtype(dtype), pad), dg(rows, cols, op_dtype(dtype), pad);
  gate_bwd(gate_kind(kind), d.tensor(), in.tensor(), gates.tensor(), scale, dx.tensor(),
           dg.tensor());
  return py::make_tuple(dx.numpy(), dg.numpy());
}

using Shorts = py::array_t<int16_t, py::array::c_style>;

CategoryIds categories(const Shorts& ids) {
  MOLTIDE_CHECK(ids.ndim() == 2, "ids: expected 2 dimensions, got ", ids.ndim());
  return {ids.data(), ids.shape(1), ids.shape(1)};
}

Floats embedding_sum_fwd_op(const Shorts& ids, float scale, const Floats& table, const Floats& x,
                            int64_t pad) {
  OpBuffer rows(table, DType::f32, pad), out(x, DType::f32, pad);
  MOLTIDE_CHECK(ids.ndim() == 2 && ids.shape(0) == out.tensor().rows, "ids: expected ",
                out.tensor().rows, " rows");
  embedding_sum_fwd(categories(ids), scale, rows.tensor(), out.tensor());
  return out.numpy();
}

Floats embedding_sum_bwd_op(const Shorts& ids, float scale, const Floats& dx, const Floats& dtable,
                            int64_t pad) {
  OpBuffer d(dx, DType::f32, pad), out(dtable, DType::f32, pad);
  MOLTIDE_CHECK(ids.ndim() == 2 && ids.shape(0) == d.tensor().rows, "ids: expected ",
                d.tensor().rows, " rows");
  embedding_sum_bwd(categories(ids), scale, d.tensor(), out.tensor());
  return out.numpy();
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
  ops.def("triangle_product_fwd", &triangle_product_fwd_op, arg("a"), arg("b"),
          "a, b (C, L, L) -> x (C, L, L)");
  ops.def("triangle_product_bwd", &triangle_product_bwd_op, arg("dx"), arg("a"), arg("b"),
          arg("in_place") = false, "-> da, db (C, L, L)");
  ops.def("gate_fwd", &gate_fwd_op, arg("x"), arg("g"), arg("kind") = "sigmoid",
          arg("scale") = 1.0f, arg("dtype") = "float32", arg("pad") = 0,
          "x (N, C), g (N, C) or one row for all -> (N, C)");
  ops.def("gate_bwd", &gate_bwd_op, arg("dy"), arg("x"), arg("g"), arg("kind") = "sigmoid",
          arg("scale") = 1.0f, arg("dtype") = "float32", arg("pad") = 0, "-> dx, dg (N, C)");
  ops.def("embedding_sum_fwd", &embedding_sum_fwd_op, arg("ids"), arg("scale"), arg("table"),
          arg("x"), arg("pad") = 0, "x (N, C) and what ids (N, F) add to it");
  ops.def("embedding_sum_bwd", &embedding_sum_bwd_op, arg("ids"), arg("scale"), arg("dx"),
          arg("dtable"), arg("pad") = 0, "dtable (V, C) and what dx (N, C) adds to it");
}
