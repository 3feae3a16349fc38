// 8-bit rows and the matrix product on them, for the tests; timings, for the benchmarks.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <new>
#include <optional>

#include "bind/op_buffer.h"
#include "core/timing.h"
#include "layernorm_quantize/layernorm_quantize.h"
#include "matmul_i8/matmul_i8.h"
#include "quantize/quantize.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using Codes = py::array_t<int8_t, py::array::c_style>;
using MaybeFloats = std::optional<Floats>;

struct Free {
  void operator()(char* p) const { ::operator delete(p, std::align_val_t{64}); }
};
using Aligned = std::unique_ptr<char, Free>;
Aligned allocate(int64_t bytes) {
  return Aligned(
      static_cast<char*>(::operator new(static_cast<size_t>(bytes + 1), std::align_val_t{64})));
}

// Int8 rows with `pad` times 64 codes more than needed between them; those beyond the columns hold
// rubbish until an op writes them.
class CodeRows {
 public:
  CodeRows(int64_t rows, int64_t cols, int64_t pad)
      : codes_(static_cast<size_t>(rows * (int8_ld(cols) + 64 * pad) + kGuard), kRubbish),
        scale_(static_cast<size_t>(rows), -1.0f),
        view_{codes_.data(), scale_.data(), rows, cols, int8_ld(cols) + 64 * pad} {}

  CodeRows(const Codes& codes, const Floats& scale, int64_t pad)
      : CodeRows(codes.shape(0), codes.shape(1), pad) {
    MOLTIDE_CHECK(scale.size() == view_.rows, "scale: expected ", view_.rows, " elements, got ",
                  scale.size());
    for (int64_t r = 0; r < view_.rows; ++r) {
      std::memcpy(view_.data + r * view_.ld, codes.data() + r * view_.cols,
                  static_cast<size_t>(view_.cols));
      view_.scale[r] = scale.data()[r];
    }
  }

  const Int8Rows& view() const { return view_; }

  // (codes, scale); throws when the op left no zeros between rows or wrote after the last one.
  py::tuple numpy() const {
    Codes codes({view_.rows, view_.cols});
    Floats scale(view_.rows);
    for (int64_t r = 0; r < view_.rows; ++r) {
      const int8_t* row = view_.data + r * view_.ld;
      std::memcpy(codes.mutable_data() + r * view_.cols, row, static_cast<size_t>(view_.cols));
      scale.mutable_data()[r] = view_.scale[r];
      for (int64_t c = view_.cols; c < view_.ld; ++c)
        if (row[c] != 0) throw std::runtime_error(concat("no zero after the columns of row ", r));
    }
    for (size_t i = codes_.size() - kGuard; i < codes_.size(); ++i)
      if (codes_[i] != kRubbish) throw std::runtime_error("the op wrote after the last row");
    return py::make_tuple(codes, scale);
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr int8_t kRubbish = 77;
  std::vector<int8_t> codes_;
  std::vector<float> scale_;
  Int8Rows view_;
};

py::tuple quantize_op(const Floats& x, const std::string& dtype, int64_t pad) {
  OpBuffer in(x, op_dtype(dtype), pad);
  const CodeRows q(in.tensor().rows, in.tensor().cols, pad);
  quantize(in.tensor(), q.view());
  return q.numpy();
}

py::tuple layernorm_quantize_op(const Floats& x, const Floats& w, const Floats& b, float eps,
                                int64_t pad) {
  OpBuffer in(x, DType::f32, pad);
  const CodeRows q(in.tensor().rows, in.tensor().cols, pad);
  layernorm_quantize(in.tensor(), w.data(), b.data(), eps, q.view());
  return q.numpy();
}

struct Packed {
  Aligned memory;
  PackedInt8 matrix;
};
Packed pack(const float* w, int64_t ld, int64_t n, int64_t k) {
  Aligned memory = allocate(packed_int8_bytes(n, k));
  pack_int8(w, ld, n, k, memory.get());
  const PackedInt8 matrix{memory.get(), n, k};
  return {std::move(memory), matrix};
}

Int8Epilogue parse_epilogue(const std::string& name) {
  if (name == "store") return Int8Epilogue::store;
  if (name == "accumulate") return Int8Epilogue::accumulate;
  MOLTIDE_CHECK(name == "gelu", "epilogue: got '", name,
                "', allowed: store, accumulate, gelu, gelu_quantize");
  return Int8Epilogue::gelu;
}

py::object matmul_i8_op(const Codes& x, const Floats& x_scale, const Floats& w,
                        const MaybeFloats& bias, const MaybeFloats& y, const std::string& epilogue,
                        const std::string& out_dtype, int64_t pad) {
  const CodeRows in(x, x_scale, pad);
  OpBuffer weight(w, DType::f32, pad);
  const Tensor wt = weight.tensor();
  const Packed packed = pack(wt.f32(), wt.ld, wt.rows, wt.cols);
  if (bias)
    MOLTIDE_CHECK(bias->size() == wt.rows, "bias: expected ", wt.rows, " elements, got ",
                  bias->size());
  const float* b = bias ? bias->data() : nullptr;
  if (epilogue == "gelu_quantize") {
    const CodeRows q(in.view().rows, wt.rows, pad);
    matmul_i8_gelu(in.view(), packed.matrix, b, q.view());
    return q.numpy();
  }
  const DType type = op_dtype(out_dtype);
  OpBuffer out = y ? OpBuffer(*y, type, pad) : OpBuffer(in.view().rows, wt.rows, type, pad);
  matmul_i8(in.view(), packed.matrix, b, out.tensor(), parse_epilogue(epilogue));
  return out.numpy();
}

double time_matmul_i8(int64_t m, int64_t n, int64_t k, const std::string& what, double seconds) {
  std::vector<float> w(static_cast<size_t>(n * k)), bias(static_cast<size_t>(n), 0.5f);
  uint32_t state = 12345;
  for (float& v : w) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  const Packed packed = pack(w.data(), k, n, k);
  const CodeRows x(m, k, 0), q(m, n, 0);
  for (int64_t i = 0; i < m * x.view().ld; ++i)
    x.view().data[i] = static_cast<int8_t>(i % 253 - 126);
  for (int64_t i = 0; i < m; ++i) x.view().scale[i] = 1e-3f;
  std::vector<float> y(static_cast<size_t>(m * n));
  std::vector<bf16> y16(static_cast<size_t>(m * n));
  const Tensor residual = make_tensor(y.data(), m, n, DType::f32);
  const Tensor out = make_tensor(y16.data(), m, n, DType::bf16);
  const Tensor in16 = make_tensor(y16.data(), m, k <= n ? k : n, DType::bf16);
  const auto call = [&] {
    if (what == "forward") return matmul_i8(x.view(), packed.matrix, bias.data(), out);
    if (what == "gelu") return matmul_i8_gelu(x.view(), packed.matrix, bias.data(), q.view());
    if (what == "accumulate")
      return matmul_i8(x.view(), packed.matrix, bias.data(), residual, Int8Epilogue::accumulate);
    if (what == "quantize") {
      const Int8Rows& v = x.view();
      return quantize(in16, {v.data, v.scale, m, in16.cols, v.ld});
    }
    if (what == "pack") return pack_int8(w.data(), k, n, k, packed.memory.get());
    throw std::invalid_argument(
        concat("what: got '", what, "', allowed: forward, gelu, accumulate, quantize, pack"));
  };
  py::gil_scoped_release release;
  return fastest_call(seconds, call);
}

}  // namespace

void bind_ops_int8(py::module_& ops) {
  ops.def("quantize", &quantize_op, py::arg("x"), py::arg("dtype") = "float32", py::arg("pad") = 0,
          "(codes, scale)");
  ops.def("layernorm_quantize", &layernorm_quantize_op, py::arg("x"), py::arg("w"), py::arg("b"),
          py::arg("eps") = 1e-5f, py::arg("pad") = 0, "(codes, scale)");
  ops.def("matmul_i8", &matmul_i8_op, py::arg("x"), py::arg("x_scale"), py::arg("w"),
          py::arg("bias") = py::none(), py::arg("y") = py::none(), py::arg("epilogue") = "store",
          py::arg("out_dtype") = "float32", py::arg("pad") = 0,
          "y, or (codes, scale) of the epilogue gelu_quantize");
  ops.def("time_matmul_i8", &time_matmul_i8, py::arg("m"), py::arg("n"), py::arg("k"),
          py::arg("what") = "forward", py::arg("seconds") = 0.1,
          "Seconds of the fastest call on buffers of the engine's own.");
  ops.def("matmul_i8_peak", &matmul_i8_peak, py::call_guard<py::gil_scoped_release>());
}
