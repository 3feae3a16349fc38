// Attention and the contact head, for the tests. Arrays are float32 and C-contiguous; for bf16 they
// are rounded on the way in and widened on the way out, so that tests see one type.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "attention/attention.h"
#include "contact/contact.h"
#include "core/check.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Ints = py::array_t<int32_t, py::array::c_style>;

// A matrix of the op's dtype with `padding` unused elements after each row, as slices of a fused
// projection have.
class Storage {
 public:
  Storage(int64_t rows, int64_t cols, const std::string& dtype, int64_t padding)
      : bf16_(dtype == "bf16"), rows_(rows), cols_(cols), ld_(cols + padding) {
    MOLTIDE_CHECK(dtype == "float32" || dtype == "bf16", "dtype: got '", dtype,
                  "', allowed: float32, bf16");
    const size_t n = static_cast<size_t>(rows * ld_);
    bf16_ ? half_.resize(n) : single_.resize(n);
  }
  Storage(const char* name, const Floats& a, const std::string& dtype, int64_t padding)
      : Storage(matrix_rows(name, a), a.shape(1), dtype, padding) {
    for (int64_t i = 0; i < rows_ * cols_; ++i) {
      const float x = a.data()[i];
      const size_t at = static_cast<size_t>(i / cols_ * ld_ + i % cols_);
      bf16_ ? void(half_[at] = float_to_bf16(x)) : void(single_[at] = x);
    }
  }

  Tensor tensor() {
    void* data = bf16_ ? static_cast<void*>(half_.data()) : single_.data();
    return {data, rows_, cols_, ld_, bf16_ ? DType::bf16 : DType::f32, Device::cpu};
  }
  Floats array() const {
    Floats out({rows_, cols_});
    for (int64_t i = 0; i < rows_ * cols_; ++i) {
      const size_t at = static_cast<size_t>(i / cols_ * ld_ + i % cols_);
      out.mutable_data()[i] = bf16_ ? bf16_to_float(half_[at]) : single_[at];
    }
    return out;
  }

 private:
  static int64_t matrix_rows(const char* name, const Floats& a) {
    MOLTIDE_CHECK(a.ndim() == 2, name, ": expected 2 dimensions, got ", a.ndim());
    return a.shape(0);
  }

  bool bf16_;
  int64_t rows_, cols_, ld_;
  std::vector<float> single_;
  std::vector<bf16> half_;
};

AttentionParams make_params(const Ints& cu_seqlens, int64_t heads, int64_t head_dim, float scale,
                            float dropout, uint64_t seed, uint64_t stream) {
  MOLTIDE_CHECK(cu_seqlens.ndim() == 1 && cu_seqlens.size() >= 1,
                "cu_seqlens: expected 1 dimension and at least 1 element");
  return {cu_seqlens.data(),
          cu_seqlens.size() - 1,
          heads,
          head_dim,
          scale,
          dropout,
          seed,
          stream,
          false};
}

int64_t head_dim_of(const Floats& q, int64_t heads) {
  MOLTIDE_CHECK(q.ndim() == 2, "q: expected 2 dimensions, got ", q.ndim());
  MOLTIDE_CHECK(heads >= 1 && q.shape(1) % heads == 0, "q: ", q.shape(1),
                " columns are not a multiple of ", heads, " heads");
  return q.shape(1) / heads;
}

py::tuple attention_fwd_op(const Floats& q, const Floats& k, const Floats& v,
                           const Ints& cu_seqlens, int64_t heads, float scale, float dropout,
                           uint64_t seed, uint64_t stream, const std::string& dtype,
                           int64_t padding, bool coarse) {
  AttentionParams params =
      make_params(cu_seqlens, heads, head_dim_of(q, heads), scale, dropout, seed, stream);
  params.coarse = coarse;
  Storage qs("q", q, dtype, padding), ks("k", k, dtype, padding), vs("v", v, dtype, padding);
  Storage os(q.shape(0), q.shape(1), dtype, padding);
  Floats lse({coarse ? 0 : heads, static_cast<int64_t>(q.shape(0))});
  {
    float* out = coarse ? nullptr : lse.mutable_data();
    py::gil_scoped_release release;
    attention_fwd(params, qs.tensor(), ks.tensor(), vs.tensor(), os.tensor(), out);
  }
  return py::make_tuple(os.array(), lse);
}

py::tuple attention_bwd_op(const Floats& dout, const Floats& q, const Floats& k, const Floats& v,
                           const Floats& o, const Floats& lse, const Ints& cu_seqlens,
                           int64_t heads, float scale, float dropout, uint64_t seed,
                           uint64_t stream, const std::string& dtype, int64_t padding) {
  const AttentionParams params =
      make_params(cu_seqlens, heads, head_dim_of(q, heads), scale, dropout, seed, stream);
  const int64_t rows = q.shape(0), cols = q.shape(1);
  MOLTIDE_CHECK(lse.size() == heads * rows, "lse: expected ", heads * rows, " elements, got ",
                lse.size());
  Storage ds("dout", dout, dtype, padding), qs("q", q, dtype, padding);
  Storage ks("k", k, dtype, padding), vs("v", v, dtype, padding), os("o", o, dtype, padding);
  Storage dq(rows, cols, dtype, padding), dk(rows, cols, dtype, padding);
  Storage dv(rows, cols, dtype, padding);
  std::vector<char> workspace(static_cast<size_t>(attention_bwd_workspace(rows, heads)));
  {
    const float* l = lse.data();
    py::gil_scoped_release release;
    attention_bwd(params, ds.tensor(), qs.tensor(), ks.tensor(), vs.tensor(), os.tensor(), l,
                  dq.tensor(), dk.tensor(), dv.tensor(), workspace.data());
  }
  return py::make_tuple(dq.array(), dk.array(), dv.array());
}

Floats attention_probs_op(const Floats& q, const Floats& k, int64_t heads, float scale,
                          const std::string& dtype, int64_t padding) {
  const int64_t head_dim = head_dim_of(q, heads), len = q.shape(0);
  Storage qs("q", q, dtype, padding), ks("k", k, dtype, padding);
  Floats probs({heads, len, len});
  {
    float* out = probs.mutable_data();
    py::gil_scoped_release release;
    attention_probs(qs.tensor(), ks.tensor(), heads, head_dim, scale, out);
  }
  return probs;
}

void contact_accumulate_op(const Floats& probs, const Floats& weight, int skip_first, int skip_last,
                           Floats& logits) {
  MOLTIDE_CHECK(probs.ndim() == 3 && probs.shape(1) == probs.shape(2),
                "probs: expected shape (H, L, L)");
  MOLTIDE_CHECK(weight.size() == probs.shape(0), "weight: expected ", probs.shape(0),
                " elements, got ", weight.size());
  const int64_t rest = probs.shape(1) - skip_first - skip_last;
  MOLTIDE_CHECK(
      rest < 0 || (logits.ndim() == 2 && logits.shape(0) == rest && logits.shape(1) == rest),
      "logits: expected shape (", rest, ", ", rest, ")");
  contact_accumulate(probs.data(), probs.shape(0), probs.shape(1), skip_first, skip_last,
                     weight.data(), logits.mutable_data());
}

void contact_sigmoid_op(Floats& logits, float bias) {
  contact_sigmoid(logits.mutable_data(), logits.size(), bias);
}

}  // namespace

void bind_ops_attention(py::module_& ops) {
  using py::arg;
  ops.def("attention_fwd", &attention_fwd_op, arg("q"), arg("k"), arg("v"), arg("cu_seqlens"),
          arg("heads"), arg("scale"), arg("dropout") = 0.0f, arg("seed") = 0, arg("stream") = 0,
          arg("dtype") = "float32", arg("padding") = 0, arg("coarse") = false,
          "q, k, v (T, H*D) -> o (T, H*D), lse (H, T), or (0, T) if coarse");
  ops.def("attention_bwd", &attention_bwd_op, arg("dout"), arg("q"), arg("k"), arg("v"), arg("o"),
          arg("lse"), arg("cu_seqlens"), arg("heads"), arg("scale"), arg("dropout") = 0.0f,
          arg("seed") = 0, arg("stream") = 0, arg("dtype") = "float32", arg("padding") = 0,
          "-> dq, dk, dv (T, H*D)");
  ops.def("attention_probs", &attention_probs_op, arg("q"), arg("k"), arg("heads"), arg("scale"),
          arg("dtype") = "float32", arg("padding") = 0, "q, k (L, H*D) -> probabilities (H, L, L)");
  ops.def("contact_accumulate", &contact_accumulate_op, arg("probs"), arg("weight"),
          arg("skip_first"), arg("skip_last"), arg("logits").noconvert(),
          "logits (l, l) += the channels of one layer's probs (H, L, L), in place");
  ops.def("contact_sigmoid", &contact_sigmoid_op, arg("logits").noconvert(), arg("bias"),
          "logits = sigmoid(logits + bias), in place");
}
