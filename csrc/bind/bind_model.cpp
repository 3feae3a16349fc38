#include <cstring>

#include "bind/convert.h"
#include "core/isa.h"
#include "io/checkpoint_file.h"
#include "model/model.h"

namespace moltide {
namespace {

// None, one name for all, or a name (or None) a sequence.
std::vector<std::string> adapter_names(const py::object& adapter, int64_t batch) {
  std::vector<std::string> names(static_cast<size_t>(batch));
  if (adapter.is_none()) return names;
  if (py::isinstance<py::str>(adapter)) {
    names.assign(static_cast<size_t>(batch), adapter.cast<std::string>());
    return names;
  }
  names.clear();
  for (auto item : adapter)
    names.push_back(item.is_none() ? std::string() : item.cast<std::string>());
  return names;
}

struct Input {
  Input(Model& model, const IntArray& tokens, const IntArray& cu_seqlens, const py::object& adapter,
        const MaybeCoordinates& coordinates)
      : batch(packed_batch(tokens, cu_seqlens, model.config().vocab, coordinates)),
        segments(model.segments(adapter_names(adapter, batch.batch()), batch)) {}
  PackedBatch batch;
  std::vector<AdapterSegment> segments;
};

// "int8" keeps all but the matrix products in bf16 where there are instructions for it.
std::unique_ptr<Model> make_model(const py::dict& config, const std::string& dtype) {
  const bool int8 = dtype == "int8";
  const DType fast = active_isa() >= Isa::avx512_bf16 ? DType::bf16 : DType::f32;
  return std::make_unique<Model>(encoder_config(config), int8 ? fast : parse_dtype(dtype), int8);
}

StoredType parse_stored_type(const std::string& name) {
  if (name == "F32") return StoredType::f32;
  if (name == "BF16") return StoredType::bf16;
  if (name == "F16") return StoredType::f16;
  if (name == "F64") return StoredType::f64;
  throw std::invalid_argument(concat("dtype '", name, "' of a file, allowed F32, BF16, F16, F64"));
}

Param& named(Model& model, const std::string& name) {
  Param* p = model.find(name);
  if (!p) throw py::key_error("the model has no parameter '" + name + "'");
  return *p;
}

FloatArray hidden(Model& model, const IntArray& tokens, const IntArray& cu,
                  const py::object& adapter, bool all_layers, const MaybeCoordinates& coordinates) {
  Input in(model, tokens, cu, adapter, coordinates);
  std::vector<py::ssize_t> shape{in.batch.count(), model.config().width};
  if (all_layers) shape.insert(shape.begin(), model.config().layers + 1);
  FloatArray out(shape);
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  model.hidden(in.batch, in.segments, all_layers, data);
  return out;
}

FloatArray pooled(Model& model, const IntArray& tokens, const IntArray& cu, const std::string& pool,
                  const py::object& adapter, const MaybeCoordinates& coordinates) {
  MOLTIDE_CHECK(pool == "mean" || pool == "cls", "pool = '", pool, "', allowed mean, cls");
  Input in(model, tokens, cu, adapter, coordinates);
  FloatArray out({in.batch.batch(), model.config().width});
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  model.pooled(in.batch, in.segments, pool == "mean" ? Pool::mean : Pool::cls, data);
  return out;
}

FloatArray logits(Model& model, const IntArray& tokens, const IntArray& cu,
                  const py::object& adapter, const MaybeCoordinates& coordinates) {
  Input in(model, tokens, cu, adapter, coordinates);
  FloatArray out({in.batch.count(), model.config().vocab});
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  model.logits(in.batch, in.segments, data);
  return out;
}

// What the head predicts, and with `with_input` what it reads.
std::pair<FloatArray, FloatArray> predict_both(Model& model, const IntArray& tokens,
                                               const IntArray& cu, const py::object& adapter,
                                               const MaybeCoordinates& coordinates,
                                               bool with_input) {
  Input in(model, tokens, cu, adapter, coordinates);
  const int64_t rows = model.predict_rows(in.batch), outputs = model.head()->config.outputs;
  FloatArray out({rows, outputs}), input({with_input ? rows : 0, model.config().width});
  const Tensor result = f32_tensor(out.mutable_data(), rows, outputs);
  float* read = with_input ? input.mutable_data() : nullptr;
  {
    py::gil_scoped_release release;
    model.predict(in.batch, in.segments, result, read);
  }
  return {std::move(out), std::move(input)};
}

FloatArray predict(Model& model, const IntArray& tokens, const IntArray& cu,
                   const py::object& adapter, const MaybeCoordinates& coordinates) {
  return predict_both(model, tokens, cu, adapter, coordinates, false).first;
}

std::pair<FloatArray, FloatArray> predict_with_input(Model& model, const IntArray& tokens,
                                                     const IntArray& cu, const py::object& adapter,
                                                     const MaybeCoordinates& coordinates) {
  return predict_both(model, tokens, cu, adapter, coordinates, true);
}

// Cuts a flat array into one array a sequence, each of shape `shape_of(length)`.
template <class ShapeOf, class Compute>
py::list per_sequence(const PackedBatch& batch, ShapeOf shape_of, Compute compute) {
  std::vector<std::vector<py::ssize_t>> shapes;
  size_t total = 0;
  for (int64_t b = 0; b < batch.batch(); ++b) {
    shapes.push_back(shape_of(batch.cu_seqlens[b + 1] - batch.cu_seqlens[b]));
    size_t size = 1;
    for (py::ssize_t s : shapes.back()) size *= static_cast<size_t>(s < 0 ? 0 : s);
    total += size;
  }
  std::vector<float> flat(total);
  {
    py::gil_scoped_release release;
    compute(flat.data());
  }
  py::list result;
  const float* next = flat.data();
  for (const auto& shape : shapes) {
    FloatArray part(shape);
    std::memcpy(part.mutable_data(), next, static_cast<size_t>(part.size()) * sizeof(float));
    next += part.size();
    result.append(std::move(part));
  }
  return result;
}

py::list contacts(Model& model, const IntArray& tokens, const IntArray& cu,
                  const py::object& adapter, const MaybeCoordinates& coordinates) {
  Input in(model, tokens, cu, adapter, coordinates);
  const Specials s = specials(model.config());
  return per_sequence(
      in.batch,
      [&](int64_t length) {
        const int64_t l = length - s.first - s.last;
        MOLTIDE_CHECK(l >= 0, "a sequence of ", length, " tokens has no residue");
        return std::vector<py::ssize_t>{l, l};
      },
      [&](float* out) { model.contacts(in.batch, in.segments, out); });
}

py::list attention_probabilities(Model& model, const IntArray& tokens, const IntArray& cu,
                                 int64_t layer, const py::object& adapter,
                                 const MaybeCoordinates& coordinates) {
  Input in(model, tokens, cu, adapter, coordinates);
  return per_sequence(
      in.batch,
      [&](int64_t length) {
        return std::vector<py::ssize_t>{model.config().heads, length, length};
      },
      [&](float* out) { model.attention(in.batch, in.segments, layer, out); });
}

py::list parameters(Model& model) {
  py::list result;
  for (const Param* p : model.params())
    result.append(py::make_tuple(p->name, py::tuple(py::cast(p->shape))));
  return result;
}

FloatArray get_parameter(Model& model, const std::string& name) {
  const Param& p = named(model, name);
  FloatArray out(numpy_shape(p.shape));
  p.copy_to(out.mutable_data());
  return out;
}

void set_parameter(Model& model, const std::string& name, const FloatArray& values) {
  Param& p = named(model, name);
  const std::vector<int64_t> got(values.shape(), values.shape() + values.ndim());
  MOLTIDE_CHECK(got == p.shape, "parameter '", name, "' has shape ",
                py::str(py::cast(p.shape)).cast<std::string>(), ", got ",
                py::str(py::cast(got)).cast<std::string>());
  std::lock_guard<ForkMutex> lock(model.mutex());
  std::memcpy(p.overwrite(), values.data(), static_cast<size_t>(p.size()) * sizeof(float));
  ++p.version;
}

// tensors: (parameter, name in the file, dtype there, first byte).
void load_parameters(
    Model& model, const std::string& path,
    const std::vector<std::tuple<std::string, std::string, std::string, int64_t>>& tensors) {
  py::gil_scoped_release release;
  const auto file = std::make_shared<const CheckpointFile>(path);
  Model::Sources sources;
  for (const auto& [parameter, name, dtype, start] : tensors) {
    const Param& p = named(model, parameter);
    sources.emplace_back(parameter, std::make_shared<const StoredTensor>(
                                        file, name, parse_stored_type(dtype), start, p.size()));
  }
  model.load(sources);
}

py::dict adapter_config(Model& model, const std::string& name) {
  const auto adapter = model.adapter(name);
  MOLTIDE_CHECK(adapter, "there is no adapter '", name, "'");
  py::dict out;
  out["rank"] = adapter->rank;
  out["alpha"] = adapter->alpha;
  out["dropout"] = adapter->dropout;
  out["targets"] = adapter->targets;
  return out;
}

py::dict plan_memory(Model& model, const std::vector<int64_t>& lengths, bool lm_head) {
  const MemoryPlan plan = model.plan(batch_shape(lengths), lm_head);
  py::dict out;
  out["weights"] = plan.weights;
  out["packed_weights"] = plan.packed_weights;
  out["activations"] = plan.activations;
  out["total"] = plan.total();
  return out;
}

}  // namespace
}  // namespace moltide

void bind_model(pybind11::module_& module) {
  namespace py = pybind11;
  using namespace moltide;
  const auto none = py::none();
  py::class_<Model>(module, "Model",
                    "An encoder with its adapters and task head. Arrays are float32; tokens (T) "
                    "int32 and cu_seqlens (B + 1) int32 describe a packed batch; a model that sees "
                    "distances needs coordinates (T, 3) too; one with a stream of pairs a tuple of "
                    "them and int16 categories, -1 for none: of tokens (T, 10), and of pairs "
                    "(sum L^2, 5), pair (query i, key j) of a sequence at its row j * L + i.")
      .def(py::init(&make_model), py::arg("config"), py::arg("dtype") = "float32")
      .def_property_readonly("config",
                             [](const Model& m) { return encoder_config_dict(m.config()); })
      .def_property_readonly("dtype",
                             [](const Model& m) { return m.int8() ? "int8" : dtype_name(m.act()); })
      .def_property_readonly("activations", [](const Model& m) { return dtype_name(m.act()); })
      .def("parameters", &parameters, "(name, shape) of every parameter.")
      .def("has_parameter", [](Model& m, const std::string& n) { return m.find(n) != nullptr; })
      .def("get_parameter", &get_parameter, py::arg("name"), "A copy of the values.")
      .def("set_parameter", &set_parameter, py::arg("name"), py::arg("values"))
      .def("load_parameters", &load_parameters, py::arg("path"), py::arg("tensors"),
           "Takes parameters from a file of weights that stays open: (parameter, name there, dtype "
           "F32, BF16, F16 or F64, first byte) of each. Their shapes must be those of the model.")
      .def("add_adapter", &Model::add_adapter, py::arg("name"), py::arg("rank"), py::arg("alpha"),
           py::arg("dropout"), py::arg("targets"), py::arg("seed") = 0)
      .def("remove_adapter", &Model::remove_adapter, py::arg("name"))
      .def("merge_adapter", &Model::merge_adapter, py::arg("name"),
           "Add the adapter into the weights and drop it.")
      .def("adapters", &Model::adapter_names)
      .def("adapter_config", &adapter_config, py::arg("name"))
      .def(
          "set_head",
          [](Model& m, const py::dict& config, uint64_t seed) {
            m.set_head(head_config(config), seed);
          },
          py::arg("config"), py::arg("seed") = 0)
      .def("remove_head", &Model::remove_head)
      .def_property_readonly("has_head", [](Model& m) { return m.head() != nullptr; })
      .def_property_readonly("head_config",
                             [](Model& m) -> py::object {
                               if (!m.head()) return py::none();
                               return head_config_dict(m.head()->config);
                             })
      .def("hidden", &hidden, py::arg("tokens"), py::arg("cu_seqlens"), py::arg("adapter") = none,
           py::arg("all_layers") = false, py::arg("coordinates") = none,
           "(T, C), or (layers + 1, T, C) from the embedding output to the final norm's output.")
      .def("pooled", &pooled, py::arg("tokens"), py::arg("cu_seqlens"), py::arg("pool") = "mean",
           py::arg("adapter") = none, py::arg("coordinates") = none,
           "(B, C): mean over residues, or the <cls> position.")
      .def("logits", &logits, py::arg("tokens"), py::arg("cu_seqlens"), py::arg("adapter") = none,
           py::arg("coordinates") = none, "(T, V) of the masked-LM head.")
      .def("predict", &predict, py::arg("tokens"), py::arg("cu_seqlens"), py::arg("adapter") = none,
           py::arg("coordinates") = none, "(B, outputs) of the task head, or (T, outputs).")
      .def("predict_with_input", &predict_with_input, py::arg("tokens"), py::arg("cu_seqlens"),
           py::arg("adapter") = none, py::arg("coordinates") = none,
           "predict, and what the head reads: (B, C) pooled as the head pools, or (T, C).")
      .def("contacts", &contacts, py::arg("tokens"), py::arg("cu_seqlens"),
           py::arg("adapter") = none, py::arg("coordinates") = none,
           "One (l, l) array of contact probabilities a sequence.")
      .def("attention_probs", &attention_probabilities, py::arg("tokens"), py::arg("cu_seqlens"),
           py::arg("layer"), py::arg("adapter") = none, py::arg("coordinates") = none,
           "One (H, L, L) array a sequence.")
      .def("plan_memory", &plan_memory, py::arg("lengths"), py::arg("lm_head") = false,
           "Bytes that inference over sequences of these token counts needs.");
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const MemoryPlanFailure& failure) {
      py::object type = py::module_::import("moltide.errors").attr("MemoryPlanError");
      PyErr_SetString(type.ptr(), failure.what());
    } catch (const CheckpointFailure& failure) {
      py::object type = py::module_::import("moltide.errors").attr("CheckpointError");
      PyErr_SetString(type.ptr(), failure.what());
    }
  });
}
