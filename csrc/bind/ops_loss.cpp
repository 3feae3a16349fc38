// Losses, AdamW and gradient clipping, for the tests. Arrays are C-contiguous; gradients are new
// arrays, AdamW works in place.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "adamw/adamw.h"
#include "bind/convert.h"
#include "bind/op_buffer.h"
#include "loss/loss.h"
#include "norm_clip/norm_clip.h"

namespace py = pybind11;
using namespace moltide;

namespace {

using Censor = py::array_t<int8_t, py::array::c_style>;

Tensor matrix(const char* name, const Floats& a) {
  MOLTIDE_CHECK(a.ndim() == 2, name, ": expected 2 dimensions, got ", a.ndim());
  return f32_tensor(a.data(), a.shape(0), a.shape(1));
}

template <class Array>
auto vector_of(const char* name, const std::optional<Array>& a, int64_t n) -> decltype(a->data()) {
  if (!a) return nullptr;
  MOLTIDE_CHECK(a->size() == n, name, ": expected ", n, " elements, got ", a->size());
  return a->data();
}

Floats like(const Floats& a) {
  return Floats({a.shape(0), a.shape(1)});
}

py::tuple cross_entropy_op(const Floats& logits, const Ints& label,
                           const std::optional<Floats>& weight, double scale,
                           const std::string& dtype) {
  const Tensor x = matrix("logits", logits);
  const int32_t* labels = vector_of<Ints>("label", label, x.rows);
  const float* weights = vector_of("weight", weight, x.rows);
  OpBuffer d(x.rows, x.cols, op_dtype(dtype), 0);
  const double sum = cross_entropy(x, labels, weights, scale, d.tensor());
  return py::make_tuple(sum, d.numpy());
}

void bind_losses(py::module_& ops) {
  const auto weight = py::arg("weight") = py::none();
  const auto scale = py::arg("scale") = 1.0;
  const auto simple = [](auto loss) {
    return
        [loss](const Floats& pred, const Floats& target, const std::optional<Floats>& w, double s) {
          Floats d = like(pred);
          const double sum = loss(matrix("pred", pred), matrix("target", target),
                                  vector_of("weight", w, pred.shape(0)), s, matrix("dpred", d));
          return py::make_tuple(sum, d);
        };
  };
  ops.def("mse", simple(&mse), py::arg("pred"), py::arg("target"), weight, scale);
  ops.def("bce", simple(&bce), py::arg("logits"), py::arg("target"), weight, scale);
  ops.def(
      "huber",
      [](const Floats& pred, const Floats& target, double delta, const std::optional<Floats>& w,
         double s) {
        Floats d = like(pred);
        const double sum = huber(matrix("pred", pred), matrix("target", target),
                                 vector_of("weight", w, pred.shape(0)), delta, s, matrix("d", d));
        return py::make_tuple(sum, d);
      },
      py::arg("pred"), py::arg("target"), py::arg("delta"), weight, scale);
  ops.def("cross_entropy", &cross_entropy_op, py::arg("logits"), py::arg("label"), weight, scale,
          py::arg("dtype") = "float32");
  ops.def(
      "ranking",
      [](const Floats& pred, const Floats& target, const std::optional<Censor>& censor,
         const std::optional<Floats>& w, double s) {
        Floats d = like(pred);
        const Tensor y = matrix("target", target);
        const int8_t* kinds = vector_of("censor", censor, target.size());
        const float* weights = vector_of("weight", w, pred.shape(0));
        const double sum = ranking(matrix("pred", pred), y, kinds, weights, s, matrix("d", d));
        return py::make_tuple(sum, d, ranking_pairs(y, kinds), ranking_weight(y, kinds, weights));
      },
      py::arg("pred"), py::arg("target"), py::arg("censor") = py::none(), weight, scale,
      "(sum, gradient, number of pairs, sum of the pairs' weights)");
  ops.def(
      "tobit",
      [](const Floats& pred, const Floats& target, const std::optional<Censor>& censor,
         const Floats& log_sigma, const Floats& dlog, const std::optional<Floats>& w, double s) {
        Floats d = like(pred);
        const Tensor x = matrix("pred", pred);
        Floats sums(dlog.size());
        std::copy_n(dlog.data(), dlog.size(), sums.mutable_data());
        const double sum = tobit(
            x, matrix("target", target), vector_of("censor", censor, target.size()),
            vector_of<Floats>("log_sigma", log_sigma, x.cols), vector_of("weight", w, x.rows), s,
            matrix("d", d), const_cast<float*>(vector_of<Floats>("dlog_sigma", sums, x.cols)));
        return py::make_tuple(sum, d, sums);
      },
      py::arg("pred"), py::arg("target"), py::arg("censor"), py::arg("log_sigma"),
      py::arg("dlog_sigma"), weight, scale, "(sum, gradient, dlog_sigma + its gradient)");
  ops.def(
      "mixed",
      [](const Floats& pred, const Floats& target, const std::optional<Censor>& censor,
         const std::vector<std::string>& column, double huber_delta,
         const std::optional<Floats>& log_sigma, const std::optional<Floats>& w, double s) {
        const Tensor x = matrix("pred", pred), y = matrix("target", target);
        MOLTIDE_CHECK(static_cast<int64_t>(column.size()) == x.cols, "column: expected ", x.cols,
                      " losses, got ", column.size());
        std::vector<TermLoss> kinds;
        for (const std::string& name : column) kinds.push_back(parse_term_loss(name));
        Floats d = like(pred);
        Floats sums(x.cols);
        std::fill_n(sums.mutable_data(), x.cols, 0.0f);
        const float* weights = vector_of("weight", w, target.size());
        const double sum = mixed(x, y, vector_of("censor", censor, target.size()), kinds.data(),
                                 huber_delta, vector_of("log_sigma", log_sigma, x.cols), weights, s,
                                 matrix("dpred", d), sums.mutable_data());
        return py::make_tuple(sum, d, sums, term_weight(y, weights));
      },
      py::arg("pred"), py::arg("target"), py::arg("censor"), py::arg("column"),
      py::arg("huber_delta") = 1.0, py::arg("log_sigma") = py::none(), weight, scale,
      "(sum, gradient, gradient of log_sigma, what the terms weigh); weight (n, k)");
  ops.def(
      "log_normal_cdf",
      [](double z) {
        double ratio;
        const double value = log_normal_cdf(z, &ratio);
        return py::make_tuple(value, ratio);
      },
      py::arg("z"));
  ops.def(
      "target_count", [](const Floats& y) { return target_count(matrix("target", y)); },
      py::arg("target"));
  ops.def(
      "loss_weight",
      [](const Floats& y, const std::optional<Floats>& w) {
        return loss_weight(matrix("target", y), vector_of("weight", w, y.shape(0)));
      },
      py::arg("target"), weight);
  ops.def(
      "label_weight",
      [](const Ints& label, const std::optional<Floats>& w) {
        return loss_weight(label.data(), label.size(), vector_of("weight", w, label.size()));
      },
      py::arg("label"), weight);
}

}  // namespace

void bind_ops_loss(py::module_& ops) {
  bind_losses(ops);
  ops.def(
      "adamw",
      [](Floats w, const Floats& g, Floats m, Floats v, float lr, float beta1, float beta2,
         float eps, float weight_decay, int64_t step, float grad_scale) {
        MOLTIDE_CHECK(g.size() == w.size() && m.size() == w.size() && v.size() == w.size(),
                      "adamw: w, g, m, v have ", w.size(), ", ", g.size(), ", ", m.size(), ", ",
                      v.size(), " elements");
        adamw(w.mutable_data(), g.data(), m.mutable_data(), v.mutable_data(), w.size(), lr, beta1,
              beta2, eps, weight_decay, step, grad_scale);
      },
      py::arg("w").noconvert(), py::arg("g"), py::arg("m").noconvert(), py::arg("v").noconvert(),
      py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"),
      py::arg("step"), py::arg("grad_scale") = 1.0f, "In place on w, m and v.");
  ops.def(
      "sum_squares", [](const Floats& g) { return sum_squares(g.data(), g.size()); }, py::arg("g"));
  ops.def("clip_scale", &clip_scale, py::arg("total"), py::arg("max_norm"));
}
