// Linear attention and its random features, for the tests.
#include <pybind11/pybind11.h>

#include <cmath>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "bind/op_buffer.h"
#include "core/philox.h"
#include "core/timing.h"
#include "linear_attention/linear_attention.h"
#include "linear_attention/random_features.h"

namespace py = pybind11;
using namespace moltide;

namespace {

LinearAttentionParams make_params(const Floats& q, const Floats& w, const Ints& cu_seqlens,
                                  int64_t heads, float eps) {
  MOLTIDE_CHECK(cu_seqlens.ndim() == 1 && cu_seqlens.size() >= 1,
                "cu_seqlens: expected 1 dimension and at least 1 element");
  MOLTIDE_CHECK(q.ndim() == 2, "q: expected 2 dimensions, got ", q.ndim());
  MOLTIDE_CHECK(heads >= 1 && q.shape(1) % heads == 0, "q: ", q.shape(1),
                " columns are not a multiple of ", heads, " heads");
  const int64_t head_dim = q.shape(1) / heads;
  MOLTIDE_CHECK(w.ndim() == 2 && w.shape(0) == head_dim, "w: expected shape (", head_dim, ", M)");
  return {cu_seqlens.data(), cu_seqlens.size() - 1, heads, head_dim, w.shape(1), eps};
}

Floats linear_attention_fwd_op(const Floats& q, const Floats& k, const Floats& v, const Floats& w,
                               const Ints& cu_seqlens, int64_t heads, float eps,
                               const std::string& dtype, int64_t pad) {
  const LinearAttentionParams params = make_params(q, w, cu_seqlens, heads, eps);
  const DType type = op_dtype(dtype);
  OpBuffer qs(q, type, pad), ks(k, type, pad), vs(v, type, pad);
  OpBuffer os(q.shape(0), q.shape(1), type, pad);
  const float* features = w.data();
  {
    py::gil_scoped_release release;
    linear_attention_fwd(params, qs.tensor(), ks.tensor(), vs.tensor(), features, os.tensor());
  }
  return os.numpy();
}

py::tuple linear_attention_bwd_op(const Floats& dout, const Floats& q, const Floats& k,
                                  const Floats& v, const Floats& w, const Ints& cu_seqlens,
                                  int64_t heads, float eps, const std::string& dtype, int64_t pad) {
  const LinearAttentionParams params = make_params(q, w, cu_seqlens, heads, eps);
  const DType type = op_dtype(dtype);
  const int64_t rows = q.shape(0), cols = q.shape(1);
  OpBuffer ds(dout, type, pad), qs(q, type, pad), ks(k, type, pad), vs(v, type, pad);
  OpBuffer dq(rows, cols, type, pad), dk(rows, cols, type, pad), dv(rows, cols, type, pad);
  const float* features = w.data();
  {
    py::gil_scoped_release release;
    linear_attention_bwd(params, ds.tensor(), qs.tensor(), ks.tensor(), vs.tensor(), features,
                         dq.tensor(), dk.tensor(), dv.tensor());
  }
  return py::make_tuple(dq.numpy(), dk.numpy(), dv.numpy());
}

Floats linear_attention_probs_op(const Floats& q, const Floats& k, const Floats& w, int64_t heads,
                                 float eps, const std::string& dtype, int64_t pad) {
  const int32_t cu_seqlens[2] = {0, static_cast<int32_t>(q.shape(0))};
  const LinearAttentionParams params = make_params(q, w, Ints(2, cu_seqlens), heads, eps);
  OpBuffer qs(q, op_dtype(dtype), pad), ks(k, op_dtype(dtype), pad);
  Floats probs({heads, static_cast<int64_t>(q.shape(0)), static_cast<int64_t>(q.shape(0))});
  const float* features = w.data();
  float* out = probs.mutable_data();
  {
    py::gil_scoped_release release;
    linear_attention_probs(qs.tensor(), ks.tensor(), features, heads, params.head_dim,
                           params.features, eps, out);
  }
  return probs;
}

Floats draw_orthogonal_features_op(uint64_t seed, uint64_t stream, int64_t head_dim,
                                   int64_t features) {
  MOLTIDE_CHECK(head_dim >= 1 && features >= 1, "expected positive sizes, got ", head_dim, " and ",
                features);
  Floats w({head_dim, features});
  draw_orthogonal_features(seed, stream, head_dim, features, w.mutable_data());
  return w;
}

// `tokens` random rows as sequences of `length`, the last one shorter where it does not fit.
class TimedAttention {
 public:
  TimedAttention(int64_t tokens, int64_t length, int64_t heads, int64_t head_dim, DType dtype) {
    MOLTIDE_CHECK(tokens >= 1 && length >= 1 && heads >= 1 && head_dim >= 4,
                  "expected positive sizes, got ", tokens, " tokens in sequences of ", length, ", ",
                  heads, " heads of ", head_dim);
    for (int64_t t = 0; t < tokens; t += length) cu_seqlens_.push_back(static_cast<int32_t>(t));
    cu_seqlens_.push_back(static_cast<int32_t>(tokens));
    Floats values({tokens, heads * head_dim});
    for (uint64_t i = 0; i < kBuffers; ++i) {
      for (int64_t at = 0; at < values.size(); ++at) {
        const PhiloxBlock draw = philox4x32(0, static_cast<uint64_t>(at), i);
        values.mutable_data()[at] = 2.0f * philox_uniform(draw.v[0]) - 1.0f;
      }
      buffers_.emplace_back(values, dtype, 0);
    }
  }
  Tensor operator[](int64_t i) { return buffers_[static_cast<size_t>(i)].tensor(); }
  const int32_t* cu_seqlens() const { return cu_seqlens_.data(); }
  int64_t batch() const { return static_cast<int64_t>(cu_seqlens_.size()) - 1; }

  static constexpr int64_t kBuffers = 8;

 private:
  std::vector<int32_t> cu_seqlens_;
  std::vector<OpBuffer> buffers_;
};

double time_linear_attention(int64_t tokens, int64_t length, int64_t heads, int64_t head_dim,
                             int64_t features, const std::string& dtype, bool backward,
                             double seconds) {
  TimedAttention x(tokens, length, heads, head_dim, op_dtype(dtype));
  const LinearAttentionParams params{x.cu_seqlens(), x.batch(), heads, head_dim, features, 1e-6f};
  const Floats w = draw_orthogonal_features_op(0, 0, head_dim, features);
  const float* f = w.data();
  py::gil_scoped_release release;
  return fastest_call(seconds, [&] {
    if (backward)
      linear_attention_bwd(params, x[3], x[0], x[1], x[2], f, x[5], x[6], x[7]);
    else
      linear_attention_fwd(params, x[0], x[1], x[2], f, x[4]);
  });
}

double time_attention(int64_t tokens, int64_t length, int64_t heads, int64_t head_dim,
                      const std::string& dtype, bool backward, double seconds) {
  TimedAttention x(tokens, length, heads, head_dim, op_dtype(dtype));
  AttentionParams params{};
  params.cu_seqlens = x.cu_seqlens();
  params.batch = x.batch();
  params.heads = heads;
  params.head_dim = head_dim;
  params.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  std::vector<float> lse(static_cast<size_t>(tokens * heads));
  std::vector<char> workspace(static_cast<size_t>(attention_bwd_workspace(tokens, heads)));
  py::gil_scoped_release release;
  attention_fwd(params, x[0], x[1], x[2], x[4], lse.data());
  return fastest_call(seconds, [&] {
    if (backward)
      attention_bwd(params, x[3], x[0], x[1], x[2], x[4], lse.data(), x[5], x[6], x[7],
                    workspace.data());
    else
      attention_fwd(params, x[0], x[1], x[2], x[4], lse.data());
  });
}

}  // namespace

void bind_ops_linear_attention(py::module_& ops) {
  using py::arg;
  ops.def("linear_attention_fwd", &linear_attention_fwd_op, arg("q"), arg("k"), arg("v"), arg("w"),
          arg("cu_seqlens"), arg("heads"), arg("eps") = 1e-6f, arg("dtype") = "float32",
          arg("pad") = 0, "q, k, v (T, H*D), w (D, M) -> o (T, H*D)");
  ops.def("linear_attention_bwd", &linear_attention_bwd_op, arg("dout"), arg("q"), arg("k"),
          arg("v"), arg("w"), arg("cu_seqlens"), arg("heads"), arg("eps") = 1e-6f,
          arg("dtype") = "float32", arg("pad") = 0, "-> dq, dk, dv (T, H*D)");
  ops.def("linear_attention_probs", &linear_attention_probs_op, arg("q"), arg("k"), arg("w"),
          arg("heads"), arg("eps") = 1e-6f, arg("dtype") = "float32", arg("pad") = 0,
          "q, k (L, H*D) -> weights (H, L, L)");
  ops.def("draw_orthogonal_features", &draw_orthogonal_features_op, arg("seed"), arg("stream"),
          arg("head_dim"), arg("features"), "-> w (D, M)");
  ops.def("time_linear_attention", &time_linear_attention, arg("tokens"), arg("length"),
          arg("heads"), arg("head_dim"), arg("features"), arg("dtype"), arg("backward"),
          arg("seconds"), "seconds of a call over tokens / length sequences, the best of many");
  ops.def("time_attention", &time_attention, arg("tokens"), arg("length"), arg("heads"),
          arg("head_dim"), arg("dtype"), arg("backward"), arg("seconds"),
          "the same of softmax attention");
}
