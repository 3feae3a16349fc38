// Norms, embedding, rotary positions, activations, sums, dropout and pooling, for the tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bind/op_buffer.h"
#include "dropout/dropout.h"
#include "embedding/embedding.h"
#include "layernorm/layernorm.h"
#include "mlp_act/mlp_act.h"
#include "pool/pool.h"
#include "residual/residual.h"
#include "rmsnorm/rmsnorm.h"
#include "rope/rope.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using MaybeFloats = std::optional<Floats>;

template <class Array>
auto elements(const char* name, const Array& a, int64_t n) -> decltype(a.data()) {
  MOLTIDE_CHECK(a.size() == n, name, ": expected ", n, " elements, got ", a.size());
  return a.data();
}

// A copy to add to, or nothing for a frozen parameter.
MaybeFloats copy_of(const MaybeFloats& a) {
  if (!a) return std::nullopt;
  return Floats(a->request());
}

float* writable(const char* name, MaybeFloats& a, int64_t n) {
  if (!a) return nullptr;
  elements(name, *a, n);
  return a->mutable_data();
}

const float* readable(const char* name, const MaybeFloats& a, int64_t n) {
  return a ? elements(name, *a, n) : nullptr;
}

py::tuple layernorm_fwd_op(const Floats& x, const Floats& w, const MaybeFloats& b, float eps,
                           const std::string& dtype, int64_t pad, const std::string& x_dtype,
                           bool in_place) {
  OpBuffer in(x, op_dtype(x_dtype), pad);
  const int64_t rows = in.tensor().rows, cols = in.tensor().cols;
  OpBuffer out(rows, cols, op_dtype(dtype), pad);
  OpBuffer& y = in_place ? in : out;
  Floats mean(rows), rstd(rows);
  layernorm_fwd(in.tensor(), elements("w", w, cols), readable("b", b, cols), eps, y.tensor(),
                mean.mutable_data(), rstd.mutable_data());
  return py::make_tuple(y.numpy(), mean, rstd);
}

py::tuple layernorm_bwd_op(const Floats& dy, const Floats& x, const Floats& w, const Floats& mean,
                           const Floats& rstd, const MaybeFloats& dx, const MaybeFloats& dw,
                           const MaybeFloats& db, const std::string& dtype, int64_t pad,
                           bool in_place, const std::string& x_dtype) {
  const DType type = op_dtype(x_dtype);
  OpBuffer d(dy, op_dtype(dtype), pad), in(x, type, pad);
  const int64_t rows = in.tensor().rows, cols = in.tensor().cols;
  OpBuffer out = dx ? OpBuffer(*dx, type, pad) : OpBuffer(rows, cols, type, pad);
  OpBuffer& result = in_place ? d : out;
  MaybeFloats new_dw = copy_of(dw), new_db = copy_of(db);
  layernorm_bwd(d.tensor(), in.tensor(), elements("w", w, cols), elements("mean", mean, rows),
                elements("rstd", rstd, rows), result.tensor(), dx.has_value(),
                writable("dw", new_dw, cols), writable("db", new_db, cols));
  return py::make_tuple(result.numpy(), new_dw, new_db);
}

py::tuple rmsnorm_fwd_op(const Floats& x, const Floats& w, float eps, const std::string& dtype,
                         int64_t pad) {
  OpBuffer in(x, DType::f32, pad);
  const int64_t rows = in.tensor().rows, cols = in.tensor().cols;
  OpBuffer y(rows, cols, op_dtype(dtype), pad);
  Floats rstd(rows);
  rmsnorm_fwd(in.tensor(), elements("w", w, cols), eps, y.tensor(), rstd.mutable_data());
  return py::make_tuple(y.numpy(), rstd);
}

py::tuple rmsnorm_bwd_op(const Floats& dy, const Floats& x, const Floats& w, const Floats& rstd,
                         const MaybeFloats& dx, const MaybeFloats& dw, const std::string& dtype,
                         int64_t pad, bool in_place) {
  OpBuffer d(dy, op_dtype(dtype), pad), in(x, DType::f32, pad);
  const int64_t rows = in.tensor().rows, cols = in.tensor().cols;
  OpBuffer out = dx ? OpBuffer(*dx, DType::f32, pad) : OpBuffer(rows, cols, DType::f32, pad);
  OpBuffer& result = in_place ? d : out;
  MaybeFloats new_dw = copy_of(dw);
  rmsnorm_bwd(d.tensor(), in.tensor(), elements("w", w, cols), elements("rstd", rstd, rows),
              result.tensor(), dx.has_value(), writable("dw", new_dw, cols));
  return py::make_tuple(result.numpy(), new_dw);
}

int64_t batch_of(const Ints& cu_seqlens) {
  MOLTIDE_CHECK(cu_seqlens.size() >= 1, "cu_seqlens: expected batch + 1 elements, got 0");
  return cu_seqlens.size() - 1;
}

Floats token_dropout_scale_op(const Ints& tokens, const Ints& cu_seqlens, int32_t mask_token,
                              float mask_ratio_train) {
  Floats scale(tokens.size());
  token_dropout_scale(tokens.data(), cu_seqlens.data(), batch_of(cu_seqlens), mask_token,
                      mask_ratio_train, scale.mutable_data());
  return scale;
}

Floats embedding_fwd_op(const Ints& tokens, const Floats& table, const MaybeFloats& scale,
                        const MaybeFloats& positions, const std::optional<Ints>& position,
                        int64_t position_offset, int64_t pad) {
  OpBuffer t(table, DType::f32, pad);
  std::optional<OpBuffer> learned;
  if (positions) learned.emplace(*positions, DType::f32, pad);
  OpBuffer x(tokens.size(), t.tensor().cols, DType::f32, pad);
  embedding_fwd(tokens.data(), readable("scale", scale, tokens.size()),
                position ? elements("position", *position, tokens.size()) : nullptr,
                position_offset, t.tensor(), learned ? learned->tensor() : Tensor{}, x.tensor());
  return x.numpy();
}

py::tuple embedding_bwd_op(const Ints& tokens, const Floats& dx, const MaybeFloats& dtable,
                           const MaybeFloats& scale, const MaybeFloats& dpositions,
                           const std::optional<Ints>& position, int64_t position_offset,
                           int64_t pad) {
  OpBuffer d(dx, DType::f32, pad);
  std::optional<OpBuffer> table, learned;
  if (dtable) table.emplace(*dtable, DType::f32, pad);
  if (dpositions) learned.emplace(*dpositions, DType::f32, pad);
  embedding_bwd(
      elements("tokens", tokens, d.tensor().rows), readable("scale", scale, tokens.size()),
      position ? elements("position", *position, tokens.size()) : nullptr, position_offset,
      d.tensor(), table ? table->tensor() : Tensor{}, learned ? learned->tensor() : Tensor{});
  return py::make_tuple(table ? py::object(table->numpy()) : py::none(),
                        learned ? py::object(learned->numpy()) : py::none());
}

py::tuple rope_table_op(int64_t max_len, int64_t head_dim, double base) {
  Floats cos({max_len, head_dim / 2}), sin({max_len, head_dim / 2});
  rope_table(max_len, head_dim, base, cos.mutable_data(), sin.mutable_data());
  return py::make_tuple(cos, sin);
}

Floats rope_op(const Floats& x, const Ints& position, int64_t heads, const Floats& cos,
               const Floats& sin, bool inverse, const std::string& dtype, int64_t pad) {
  OpBuffer b(x, op_dtype(dtype), pad);
  const int64_t head_dim = heads > 0 ? b.tensor().cols / heads : 0;
  rope(b.tensor(), elements("position", position, b.tensor().rows), heads, head_dim, cos.data(),
       elements("sin", sin, cos.size()), inverse);
  return b.numpy();
}

Activation parse_activation(const std::string& name) {
  if (name == "gelu") return Activation::gelu;
  if (name == "swiglu") return Activation::swiglu;
  if (name == "relu") return Activation::relu;
  MOLTIDE_CHECK(name == "tanh", "activation: got '", name, "', allowed: gelu, swiglu, relu, tanh");
  return Activation::tanh;
}

Floats activation_fwd_op(const std::string& name, const Floats& u, const std::string& dtype,
                         int64_t pad, std::optional<float> beta) {
  const Activation activation = parse_activation(name);
  OpBuffer in(u, op_dtype(dtype), pad);
  const int64_t cols = in.tensor().cols / (activation == Activation::swiglu ? 2 : 1);
  OpBuffer y(in.tensor().rows, cols, op_dtype(dtype), pad);
  activation_fwd(activation, in.tensor(), y.tensor(), beta ? &*beta : nullptr);
  return y.numpy();
}

Floats activation_bwd_op(const std::string& name, const Floats& dy, const Floats& u,
                         const std::string& dtype, int64_t pad, bool in_place,
                         std::optional<float> beta) {
  OpBuffer d(dy, op_dtype(dtype), pad), in(u, op_dtype(dtype), pad);
  OpBuffer du(in.tensor().rows, in.tensor().cols, op_dtype(dtype), pad);
  OpBuffer& result = in_place ? d : du;
  activation_bwd(parse_activation(name), d.tensor(), in.tensor(), result.tensor(),
                 beta ? &*beta : nullptr);
  return result.numpy();
}

float swiglu_bwd_beta_op(const Floats& dy, const Floats& u, float beta, float dbeta,
                         const std::string& dtype, int64_t pad) {
  OpBuffer d(dy, op_dtype(dtype), pad), in(u, op_dtype(dtype), pad);
  std::vector<float> rows(static_cast<size_t>(d.tensor().rows));
  swiglu_bwd_beta(d.tensor(), in.tensor(), beta, rows.data(), &dbeta);
  return dbeta;
}

Floats residual_add_op(const Floats& x, const Floats& branch, float scale, const std::string& dtype,
                       int64_t pad) {
  OpBuffer stream(x, DType::f32, pad), b(branch, op_dtype(dtype), pad);
  residual_add(stream.tensor(), b.tensor(), scale);
  return stream.numpy();
}

Floats copy_cast_op(const Floats& x, const std::string& from, const std::string& to, int64_t pad) {
  OpBuffer source(x, op_dtype(from), pad);
  OpBuffer copy(source.tensor().rows, source.tensor().cols, op_dtype(to), pad);
  copy_cast(source.tensor(), copy.tensor());
  return copy.numpy();
}

Floats gather_rows_op(const Floats& x, const Ints& row, const std::string& dtype, int64_t pad) {
  OpBuffer source(x, op_dtype(dtype), pad);
  OpBuffer copy(row.size(), source.tensor().cols, op_dtype(dtype), pad);
  gather_rows(source.tensor(), row.data(), copy.tensor());
  return copy.numpy();
}

Floats accumulate_op(const Floats& x, const Floats& y, const std::string& from,
                     const std::string& to, int64_t pad) {
  OpBuffer source(x, op_dtype(from), pad), sum(y, op_dtype(to), pad);
  accumulate(source.tensor(), sum.tensor());
  return sum.numpy();
}

Floats dropout_op(const Floats& x, float p, uint64_t seed, uint64_t stream,
                  const std::string& dtype, int64_t pad, bool in_place) {
  OpBuffer in(x, op_dtype(dtype), pad);
  OpBuffer out(in.tensor().rows, in.tensor().cols, op_dtype(dtype), pad);
  OpBuffer& y = in_place ? in : out;
  dropout(in.tensor(), y.tensor(), p, seed, stream);
  return y.numpy();
}

Pool parse_pool(const std::string& name) {
  MOLTIDE_CHECK(name == "mean" || name == "cls", "pool: got '", name, "', allowed: mean, cls");
  return name == "mean" ? Pool::mean : Pool::cls;
}

Floats pool_fwd_op(const std::string& pool, const Floats& x, const Ints& cu_seqlens, int skip_first,
                   int skip_last, int64_t pad) {
  OpBuffer in(x, DType::f32, pad);
  const int64_t batch = batch_of(cu_seqlens);
  OpBuffer y(batch, in.tensor().cols, DType::f32, pad);
  pool_fwd(parse_pool(pool), in.tensor(), cu_seqlens.data(), batch, skip_first, skip_last,
           y.tensor());
  return y.numpy();
}

Floats pool_bwd_op(const std::string& pool, const Floats& dy, const Ints& cu_seqlens,
                   int skip_first, int skip_last, int64_t pad) {
  OpBuffer d(dy, DType::f32, pad);
  const int64_t batch = batch_of(cu_seqlens);
  OpBuffer dx(cu_seqlens.data()[batch], d.tensor().cols, DType::f32, pad);
  pool_bwd(parse_pool(pool), d.tensor(), cu_seqlens.data(), batch, skip_first, skip_last,
           dx.tensor());
  return dx.numpy();
}

void bind_norms(py::module_& ops) {
  const auto dtype = py::arg("dtype") = "float32";
  const auto pad = py::arg("pad") = 0;
  const auto in_place = py::arg("in_place") = false;
  const auto x_dtype = py::arg("x_dtype") = "float32";
  const auto dx = py::arg("dx") = py::none(), dw = py::arg("dw") = py::none();
  ops.def("layernorm_fwd", &layernorm_fwd_op, py::arg("x"), py::arg("w"), py::arg("b"),
          py::arg("eps"), dtype, pad, x_dtype, in_place, "(y, mean, rstd); b may be None");
  ops.def("layernorm_bwd", &layernorm_bwd_op, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("mean"), py::arg("rstd"), dx, dw, py::arg("db") = py::none(), dtype, pad,
          in_place, x_dtype, "(dx, dw, db), each added to what is given for it");
  ops.def("rmsnorm_fwd", &rmsnorm_fwd_op, py::arg("x"), py::arg("w"), py::arg("eps"), dtype, pad,
          "(y, rstd)");
  ops.def("rmsnorm_bwd", &rmsnorm_bwd_op, py::arg("dy"), py::arg("x"), py::arg("w"),
          py::arg("rstd"), dx, dw, dtype, pad, in_place,
          "(dx, dw), each added to what is given for it");
}

void bind_embedding(py::module_& ops) {
  const auto pad = py::arg("pad") = 0;
  const auto scale = py::arg("scale") = py::none(), position = py::arg("position") = py::none();
  const auto position_offset = py::arg("position_offset") = 0;
  ops.def("token_dropout_scale", &token_dropout_scale_op, py::arg("tokens"), py::arg("cu_seqlens"),
          py::arg("mask_token"), py::arg("mask_ratio_train"));
  ops.def("embedding_fwd", &embedding_fwd_op, py::arg("tokens"), py::arg("table"), scale,
          py::arg("positions") = py::none(), position, position_offset, pad);
  ops.def("embedding_bwd", &embedding_bwd_op, py::arg("tokens"), py::arg("dx"),
          py::arg("dtable") = py::none(), scale, py::arg("dpositions") = py::none(), position,
          position_offset, pad, "(dtable, dpositions), each added to what is given for it");
}

}  // namespace

void bind_ops_rows(py::module_& ops) {
  const auto dtype = py::arg("dtype") = "float32";
  const auto pad = py::arg("pad") = 0;
  const auto in_place = py::arg("in_place") = false;
  bind_norms(ops);
  bind_embedding(ops);
  ops.def("rope_table", &rope_table_op, py::arg("max_len"), py::arg("head_dim"), py::arg("base"),
          "(cos, sin)");
  ops.def("rope", &rope_op, py::arg("x"), py::arg("position"), py::arg("heads"), py::arg("cos"),
          py::arg("sin"), py::arg("inverse") = false, dtype, pad);
  const auto beta = py::arg("beta") = py::none();
  ops.def("activation_fwd", &activation_fwd_op, py::arg("activation"), py::arg("u"), dtype, pad,
          beta);
  ops.def("activation_bwd", &activation_bwd_op, py::arg("activation"), py::arg("dy"), py::arg("u"),
          dtype, pad, in_place, beta);
  ops.def("swiglu_bwd_beta", &swiglu_bwd_beta_op, py::arg("dy"), py::arg("u"), py::arg("beta"),
          py::arg("dbeta") = 0.0f, dtype, pad, "Gradient of swiglu's beta, added to dbeta");
  ops.def("residual_add", &residual_add_op, py::arg("x"), py::arg("branch"), py::arg("scale") = 1.0,
          dtype, pad);
  ops.def("copy_cast", &copy_cast_op, py::arg("x"), py::arg("source") = "float32",
          py::arg("destination") = "bf16", pad);
  ops.def("gather_rows", &gather_rows_op, py::arg("x"), py::arg("row"), dtype, pad);
  ops.def("accumulate", &accumulate_op, py::arg("x"), py::arg("y"), py::arg("source") = "float32",
          py::arg("destination") = "float32", pad);
  ops.def("dropout", &dropout_op, py::arg("x"), py::arg("p"), py::arg("seed"), py::arg("stream"),
          dtype, pad, in_place);
  const auto skip_first = py::arg("skip_first") = 1, skip_last = py::arg("skip_last") = 1;
  ops.def("pool_fwd", &pool_fwd_op, py::arg("pool"), py::arg("x"), py::arg("cu_seqlens"),
          skip_first, skip_last, pad);
  ops.def("pool_bwd", &pool_bwd_op, py::arg("pool"), py::arg("dy"), py::arg("cu_seqlens"),
          skip_first, skip_last, pad);
}
