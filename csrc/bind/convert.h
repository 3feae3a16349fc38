// Python dictionaries and arrays to the engine's types and back.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "core/check.h"
#include "data/packer.h"
#include "loss/loss.h"
#include "model/config.h"

namespace moltide {

namespace py = pybind11;
using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;
using IntArray = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;
using LongArray = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using ShortArray = py::array_t<int16_t, py::array::c_style | py::array::forcecast>;
// Where each token is in space (T, 3), for models that see distances; for those with a stream of
// pairs also the categories of tokens and of pairs (data/packer.h).
using Described = std::tuple<FloatArray, ShortArray, ShortArray>;
using MaybeCoordinates = std::optional<std::variant<FloatArray, Described>>;
using ByteArray = py::array_t<int8_t, py::array::c_style | py::array::forcecast>;

// Reads a dictionary field by field; `finish` refuses fields nobody asked for.
class Fields {
 public:
  Fields(py::dict values, std::string what) : values_(std::move(values)), what_(std::move(what)) {}

  template <class T>
  void read(const char* name, T& into) {
    seen_.emplace_back(name);
    if (!values_.contains(name)) return;
    try {
      into = values_[name].template cast<T>();
    } catch (const py::cast_error&) {
      throw std::invalid_argument(concat(what_, ": ", name, " = ",
                                         py::repr(values_[name]).template cast<std::string>(),
                                         " is of the wrong type"));
    }
  }

  // A field with a fixed set of names, in the order of its values.
  template <class T>
  void choice(const char* name, T& into, std::initializer_list<std::pair<const char*, T>> allowed) {
    std::string text;
    read(name, text);
    if (text.empty()) return;
    std::string list;
    for (const auto& option : allowed) {
      if (text == option.first) {
        into = option.second;
        return;
      }
      list += std::string(list.empty() ? "" : ", ") + option.first;
    }
    throw std::invalid_argument(concat(what_, ": ", name, " = '", text, "', allowed ", list));
  }

  void finish() const {
    for (auto item : values_) {
      const std::string name = py::str(item.first);
      bool known = false;
      for (const std::string& s : seen_) known = known || s == name;
      MOLTIDE_CHECK(known, what_, ": there is no field '", name, "'");
    }
  }

 private:
  py::dict values_;
  std::string what_;
  std::vector<std::string> seen_;
};

EncoderConfig encoder_config(const py::dict& values);
py::dict encoder_config_dict(const EncoderConfig& config);
HeadConfig head_config(const py::dict& values);
py::dict head_config_dict(const HeadConfig& config);
DType parse_dtype(const std::string& name);
TermLoss parse_term_loss(const std::string& name);

BatchShape batch_shape(const std::vector<int64_t>& lengths);
// Throws for arrays of another shape than these sequences need; pairs: the sum of L^2.
SequenceExtras extras_of(const MaybeCoordinates& coordinates, int64_t tokens, int64_t pairs);
PackedBatch packed_batch(const IntArray& tokens, const IntArray& cu_seqlens, int64_t vocab,
                         const MaybeCoordinates& coordinates);
std::vector<py::ssize_t> numpy_shape(const std::vector<int64_t>& shape);

}  // namespace moltide
