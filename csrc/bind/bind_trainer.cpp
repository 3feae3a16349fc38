#include <cstring>

#include "bind/convert.h"
#include "core/env.h"
#include "train/trainer.h"

namespace moltide {
namespace {

TrainConfig train_config(const py::dict& values) {
  TrainConfig c;
  Fields f(values, "train config");
  f.choice("mode", c.mode,
           {{"full", TrainMode::full}, {"lora", TrainMode::lora}, {"head", TrainMode::head}});
  f.read("adapter", c.adapter);
  f.choice("objective", c.objective,
           {{"mse", Objective::mse},
            {"huber", Objective::huber},
            {"cross_entropy", Objective::cross_entropy},
            {"bce", Objective::bce},
            {"ranking", Objective::ranking},
            {"tobit", Objective::tobit},
            {"mlm", Objective::mlm},
            {"mixed", Objective::mixed}});
  std::vector<std::string> losses;
  f.read("column_losses", losses);
  for (const std::string& name : losses) c.column_losses.push_back(parse_term_loss(name));
  f.read("lr", c.lr);
  f.read("head_lr_scale", c.head_lr_scale);
  f.read("weight_decay", c.weight_decay);
  f.read("beta1", c.beta1);
  f.read("beta2", c.beta2);
  f.read("eps", c.eps);
  f.read("clip_norm", c.clip_norm);
  f.choice("schedule", c.schedule.kind,
           {{"constant", Schedule::constant},
            {"linear", Schedule::linear},
            {"cosine", Schedule::cosine}});
  f.read("warmup_steps", c.schedule.warmup_steps);
  f.read("total_steps", c.schedule.total_steps);
  f.read("min_lr_ratio", c.schedule.min_ratio);
  f.read("seed", c.seed);
  f.read("max_tokens", c.max_tokens);
  f.choice("recompute", c.recompute,
           {{"none", Recompute::none}, {"mlp", Recompute::mlp}, {"blocks", Recompute::blocks}});
  f.read("redraw_features", c.redraw_features);
  f.read("huber_delta", c.huber_delta);
  f.read("mlm_probability", c.masking.probability);
  f.read("mlm_mask", c.masking.mask);
  f.read("mlm_random", c.masking.random);
  f.read("mlm_residues", c.masking.residues);
  f.read("head_weight", c.head_weight);
  f.finish();
  return c;
}

template <class T, class Array>
std::vector<T> to_vector(const Array& array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

void set_dataset(Trainer& trainer, const IntArray& tokens, const LongArray& offsets,
                 const py::object& targets, const py::object& censor, const py::object& weights,
                 const MaybeCoordinates& coordinates) {
  Dataset data;
  data.tokens = to_vector<int32_t>(tokens);
  data.offsets = to_vector<int64_t>(offsets);
  if (!targets.is_none()) {
    const auto array = targets.cast<FloatArray>();
    MOLTIDE_CHECK(array.ndim() <= 2, "targets have ", array.ndim(), " dimensions, allowed 1 or 2");
    data.targets = to_vector<float>(array);
    data.columns = array.ndim() == 2 ? array.shape(1) : 1;
  }
  if (!censor.is_none()) data.censor = to_vector<int8_t>(censor.cast<ByteArray>());
  if (!weights.is_none()) {
    const auto array = weights.cast<FloatArray>();
    MOLTIDE_CHECK(array.ndim() == 1 || array.ndim() == 2, "weights have ", array.ndim(),
                  " dimensions, allowed 1 or 2");
    data.weights = to_vector<float>(array);
    data.weight_columns = array.ndim() == 2 ? array.shape(1) : 1;
  }
  for (size_t i = 1; i < data.offsets.size(); ++i) {
    const int64_t length = data.offsets[i] - data.offsets[i - 1];
    data.pair_starts.push_back(data.pair_starts.back() + length * length);
  }
  const int64_t pairs = data.pair_starts.back();
  const SequenceExtras extras = extras_of(coordinates, tokens.size(), pairs);
  if (extras.coordinates)
    data.coordinates.assign(extras.coordinates, extras.coordinates + 3 * tokens.size());
  if (extras.token_ids) {
    data.token_ids.assign(extras.token_ids, extras.token_ids + kTokenCategories * tokens.size());
    data.pair_ids.assign(extras.pair_ids, extras.pair_ids + kPairCategories * pairs);
  }
  trainer.set_dataset(std::move(data));
}

py::dict step(Trainer& trainer, const LongArray& rows) {
  const std::vector<int64_t> order = to_vector<int64_t>(rows);
  StepResult r;
  {
    py::gil_scoped_release release;
    r = trainer.step(order);
  }
  py::dict out;
  out["loss"] = r.loss;
  out["grad_norm"] = r.grad_norm;
  out["lr"] = r.lr;
  out["tokens"] = r.tokens;
  out["sequences"] = r.sequences;
  out["step"] = r.step;
  return out;
}

FloatArray copy_values(const Param& p, const float* values) {
  FloatArray out(numpy_shape(p.shape));
  std::memcpy(out.mutable_data(), values, static_cast<size_t>(p.size()) * sizeof(float));
  return out;
}

py::tuple gradients(Trainer& trainer, const LongArray& rows) {
  const std::vector<int64_t> order = to_vector<int64_t>(rows);
  std::vector<std::pair<const Param*, std::vector<float>>> all;
  double loss = 0;
  {
    py::gil_scoped_release release;
    loss = trainer.gradients(order, [&](const Param& p) {
      all.emplace_back(&p, std::vector<float>(p.grad, p.grad + p.size()));
    });
  }
  py::dict out;
  for (const auto& [p, values] : all) out[p->name.c_str()] = copy_values(*p, values.data());
  return py::make_tuple(loss, out);
}

py::dict state(Trainer& trainer) {
  py::dict out;
  out["step"] = trainer.step_index();
  for (size_t i = 0; i < trainer.trained().size(); ++i) {
    const Param& p = *trainer.trained()[i];
    out[("param." + p.name).c_str()] = copy_values(p, p.value);
    out[("m." + p.name).c_str()] = copy_values(p, trainer.first_moment(i));
    out[("v." + p.name).c_str()] = copy_values(p, trainer.second_moment(i));
  }
  return out;
}

void load_values(const py::dict& from, const std::string& key, const Param& p, float* into) {
  MOLTIDE_CHECK(from.contains(key.c_str()), "training state lacks '", key, "'");
  const auto array = from[key.c_str()].cast<FloatArray>();
  const std::vector<int64_t> got(array.shape(), array.shape() + array.ndim());
  MOLTIDE_CHECK(got == p.shape, "training state: '", key, "' has another shape than the model's");
  std::memcpy(into, array.data(), static_cast<size_t>(p.size()) * sizeof(float));
}

void load_state(Trainer& trainer, const py::dict& from) {
  MOLTIDE_CHECK(from.contains("step"), "training state lacks 'step'");
  const size_t expected = 3 * trainer.trained().size() + 1;
  MOLTIDE_CHECK(from.size() == expected, "training state has ", from.size(), " entries, expected ",
                expected);
  for (size_t i = 0; i < trainer.trained().size(); ++i) {
    Param& p = *trainer.trained()[i];
    load_values(from, "param." + p.name, p, p.value);
    load_values(from, "m." + p.name, p, trainer.first_moment(i));
    load_values(from, "v." + p.name, p, trainer.second_moment(i));
    ++p.version;
  }
  trainer.set_step_index(from["step"].cast<int64_t>());
}

py::dict plan_memory(Trainer& trainer, const std::vector<int64_t>& lengths, int64_t micro_batches) {
  const MemoryPlan plan = trainer.plan(batch_shape(lengths), micro_batches);
  py::dict out;
  out["weights"] = plan.weights;
  out["packed_weights"] = plan.packed_weights;
  out["gradients"] = plan.gradients;
  out["optimizer"] = plan.optimizer;
  out["activations"] = plan.activations;
  out["total"] = plan.total();
  out["available"] = available_memory();
  return out;
}

}  // namespace
}  // namespace moltide

void bind_trainer(pybind11::module_& module) {
  namespace py = pybind11;
  using namespace moltide;
  py::class_<Trainer>(module, "Trainer",
                      "Trains a Model: AdamW, clipping, schedule, gradient accumulation.")
      .def(py::init([](Model& model, const py::dict& config) {
             return std::make_unique<Trainer>(model, train_config(config));
           }),
           py::arg("model"), py::arg("config"), py::keep_alive<1, 2>())
      .def(
          "set_dataset", &set_dataset, py::arg("tokens"), py::arg("offsets"),
          py::arg("targets") = py::none(), py::arg("censor") = py::none(),
          py::arg("weights") = py::none(), py::arg("coordinates") = py::none(),
          "tokens (sum L) int32, offsets (N + 1) int64, targets (N, k) or per residue (sum L, k) "
          "float32 with NaN = missing, censor (N, k) int8, weights (N), or for the objective mixed "
          "(N, k), float32; coordinates (sum L, 3) float32 for a model that sees distances, with "
          "what Model says where it has a stream of pairs.")
      .def("step", &step, py::arg("rows"),
           "One update on these dataset rows: loss, grad_norm, lr, tokens, sequences, step.")
      .def("gradients", &gradients, py::arg("rows"),
           "(loss, {parameter: gradient}) without an update.")
      .def("trained_parameters",
           [](const Trainer& t) {
             std::vector<std::string> names;
             for (const Param* p : t.trained()) names.push_back(p->name);
             return names;
           })
      .def("state", &state, "Everything a bit-exact resume needs, as arrays.")
      .def("load_state", &load_state, py::arg("state"))
      .def("plan_memory", &plan_memory, py::arg("lengths"), py::arg("micro_batches") = 1,
           "Bytes that a step of so many micro-batches needs, the largest of which has sequences "
           "of these token counts. Of a single one, what gradients and activations use in turn "
           "counts as gradients.");
}
