// The matrix product and its weight gradient, for the tests; timings, for the benchmarks.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <memory>
#include <optional>

#include "bind/op_buffer.h"
#include "core/isa.h"
#include "core/timing.h"
#include "matmul/matmul.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using MaybeFloats = std::optional<Floats>;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Aligned = std::unique_ptr<void, Free>;

Aligned allocate(int64_t bytes) {
  const int64_t rounded = (bytes / 64 + 1) * 64;
  Aligned memory(std::aligned_alloc(64, static_cast<size_t>(rounded)));
  if (!memory) throw std::bad_alloc();
  std::memset(memory.get(), 0, static_cast<size_t>(rounded));
  return memory;
}

struct Packed {
  Aligned memory;
  PackedMatrix matrix;
};

Packed pack(const float* w, int64_t ld, bool transpose, int64_t n, int64_t k, float scale,
            DType dtype) {
  Aligned memory = allocate(packed_bytes(n, k, dtype));
  std::memset(memory.get(), 0xff, static_cast<size_t>(packed_bytes(n, k, dtype)));
  pack_matrix(w, ld, transpose, n, k, scale, dtype, memory.get());
  const PackedMatrix matrix{memory.get(), n, k, dtype};
  return {std::move(memory), matrix};
}

Epilogue parse_epilogue(const std::string& name) {
  if (name == "store") return Epilogue::store;
  if (name == "accumulate") return Epilogue::accumulate;
  MOLTIDE_CHECK(name == "gelu", "epilogue: got '", name, "', allowed: store, accumulate, gelu");
  return Epilogue::gelu;
}

py::object matmul_op(const Floats& x, const Floats& w, const MaybeFloats& bias,
                     const MaybeFloats& y, const std::string& epilogue, bool transpose, float scale,
                     const std::string& dtype, const std::string& out_dtype, bool want_pre,
                     int64_t pad, const std::string& pack_isa) {
  const DType act = op_dtype(dtype);
  OpBuffer in(x, act, pad), weight(w, DType::f32, pad);
  const Tensor wt = weight.tensor();
  const int64_t n = transpose ? wt.cols : wt.rows, k = transpose ? wt.rows : wt.cols;
  const std::string before = isa_name(active_isa());
  if (!pack_isa.empty()) set_isa(pack_isa);
  const Packed packed = pack(wt.f32(), wt.ld, transpose, n, k, scale, act);
  set_isa(before);
  if (bias) MOLTIDE_CHECK(bias->size() == n, "bias: expected ", n, " elements, got ", bias->size());
  const int64_t rows = in.tensor().rows;
  const DType out_type = op_dtype(out_dtype);
  OpBuffer out = y ? OpBuffer(*y, out_type, pad) : OpBuffer(rows, n, out_type, pad);
  OpBuffer pre(rows, n, out_type, pad);
  const Tensor pre_tensor = pre.tensor();
  matmul(in.tensor(), packed.matrix, bias ? bias->data() : nullptr, out.tensor(),
         parse_epilogue(epilogue), want_pre ? &pre_tensor : nullptr);
  if (want_pre) return py::make_tuple(out.numpy(), pre.numpy());
  return out.numpy();
}

py::tuple matmul_dw_op(const Floats& dy, const Floats& x, const Floats& dw, const MaybeFloats& db,
                       float scale, const std::string& dtype, int64_t pad) {
  const DType act = op_dtype(dtype);
  OpBuffer dy_in(dy, act, pad), x_in(x, act, pad), out(dw, DType::f32, pad);
  MaybeFloats sums;
  if (db) sums = Floats(db->request());
  if (db)
    MOLTIDE_CHECK(db->size() == dy.shape(1), "db: expected ", dy.shape(1), " elements, got ",
                  db->size());
  matmul_dw(dy_in.tensor(), x_in.tensor(), out.tensor(), sums ? sums->mutable_data() : nullptr,
            scale);
  return py::make_tuple(out.numpy(), sums);
}

// Bounded, reproducible values of order one, so that no product meets a denormal.
void fill(const Tensor& t) {
  uint32_t state = 12345;
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t c = 0; c < t.cols; ++c) {
      state = state * 1664525u + 1013904223u;
      const float v = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
      if (t.dtype == DType::f32)
        *static_cast<float*>(t.at(r, c)) = v;
      else
        *static_cast<bf16*>(t.at(r, c)) = float_to_bf16(v);
    }
}

double time_matmul(int64_t m, int64_t n, int64_t k, const std::string& dtype,
                   const std::string& what, double seconds) {
  const DType act = op_dtype(dtype);
  const auto matrix = [&](int64_t rows, int64_t cols, DType type, std::vector<Aligned>& keep) {
    keep.push_back(allocate(rows * cols * dtype_bytes(type)));
    const Tensor t = make_tensor(keep.back().get(), rows, cols, type);
    fill(t);
    return t;
  };
  std::vector<Aligned> keep;
  const Tensor x = matrix(m, k, act, keep), y = matrix(m, n, act, keep);
  const Tensor residual = matrix(m, n, DType::f32, keep), w = matrix(n, k, DType::f32, keep);
  const Tensor dw = matrix(n, k, DType::f32, keep), bias = matrix(1, n, DType::f32, keep);
  const Packed forward = pack(w.f32(), k, false, n, k, 1.0f, act);
  const Packed backward = pack(w.f32(), k, true, k, n, 1.0f, act);
  const auto call = [&] {
    if (what == "forward") return matmul(x, forward.matrix, bias.f32(), y);
    if (what == "gelu") return matmul(x, forward.matrix, bias.f32(), y, Epilogue::gelu);
    if (what == "accumulate")
      return matmul(x, forward.matrix, bias.f32(), residual, Epilogue::accumulate);
    if (what == "dx") return matmul(y, backward.matrix, nullptr, x);
    if (what == "dw") return matmul_dw(y, x, dw, bias.f32());
    if (what == "pack")
      return pack_matrix(w.f32(), k, false, n, k, 1.0f, act, forward.memory.get());
    throw std::invalid_argument(
        concat("what: got '", what, "', allowed: forward, gelu, accumulate, dx, dw, pack"));
  };
  py::gil_scoped_release release;
  return fastest_call(seconds, call);
}

}  // namespace

void bind_ops_matmul(py::module_& ops) {
  ops.def("matmul", &matmul_op, py::arg("x"), py::arg("w"), py::arg("bias") = py::none(),
          py::arg("y") = py::none(), py::arg("epilogue") = "store", py::arg("transpose") = false,
          py::arg("scale") = 1.0f, py::arg("dtype") = "float32", py::arg("out_dtype") = "float32",
          py::arg("want_pre") = false, py::arg("pad") = 0, py::arg("pack_isa") = "");
  ops.def("matmul_dw", &matmul_dw_op, py::arg("dy"), py::arg("x"), py::arg("dw"),
          py::arg("db") = py::none(), py::arg("scale") = 1.0f, py::arg("dtype") = "float32",
          py::arg("pad") = 0);
  ops.def("time_matmul", &time_matmul, py::arg("m"), py::arg("n"), py::arg("k"),
          py::arg("dtype") = "float32", py::arg("what") = "forward", py::arg("seconds") = 0.1,
          "Seconds of the fastest call on buffers of the engine's own.");
  ops.def(
      "matmul_peak_flops",
      [](const std::string& dtype) { return matmul_peak_flops(op_dtype(dtype)); },
      py::arg("dtype") = "float32", py::call_guard<py::gil_scoped_release>());
}
