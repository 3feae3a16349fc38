#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "adamw/adamw.h"
#include "core/philox.h"
#include "model/feature_draws.h"
#include "model/norms.h"
#include "model/pair_stream.h"
#include "norm_clip/norm_clip.h"
#include "residual/residual.h"

namespace moltide {
namespace {

// A step's micro-batches are numbered within this many, so that no two share a random draw.
constexpr int64_t kMicroBatchesPerStep = 4096;

bool starts_with(const std::string& text, const char* prefix) {
  return text.rfind(prefix, 0) == 0;
}

void check_config(const TrainConfig& c) {
  auto in_range = [](const char* name, double value, double low, double high) {
    MOLTIDE_CHECK(value >= low && value <= high, "train config: ", name, " = ", value, ", allowed ",
                  low, " .. ", high);
  };
  in_range("lr", c.lr, 0, 10);
  in_range("head_lr_scale", c.head_lr_scale, 0, 1e6);
  in_range("weight_decay", c.weight_decay, 0, 10);
  in_range("beta1", c.beta1, 0, 0.999999);
  in_range("beta2", c.beta2, 0, 0.9999999);
  in_range("eps", c.eps, 1e-30, 1);
  in_range("clip_norm", c.clip_norm, 0, 1e30);
  in_range("huber_delta", c.huber_delta, 1e-12, 1e30);
  in_range("min_lr_ratio", c.schedule.min_ratio, 0, 1);
  in_range("mlm_probability", c.masking.probability, 0, 1);
  in_range("head_weight", c.head_weight, 0, 1e6);
  MOLTIDE_CHECK(c.schedule.total_steps >= 1, "train config: total_steps = ", c.schedule.total_steps,
                ", allowed 1 or more");
  MOLTIDE_CHECK(c.schedule.warmup_steps >= 0,
                "train config: warmup_steps = ", c.schedule.warmup_steps, ", allowed 0 or more");
  MOLTIDE_CHECK(c.max_tokens >= 1, "train config: max_tokens = ", c.max_tokens,
                ", allowed 1 or more");
}

}  // namespace

Trainer::Trainer(Model& model, const TrainConfig& config) : model_(model), config_(config) {
  check_config(config_);
  MOLTIDE_CHECK(!model_.int8(),
                "an int8 model has no backward pass; load it as float32 or bf16 to train it");
  const bool mlm = config_.objective == Objective::mlm;
  MOLTIDE_CHECK(!mlm || model_.config().lm_head, "objective mlm needs a masked-LM head");
  MOLTIDE_CHECK(mlm || !joint(), "head_weight = ", config_.head_weight,
                " goes with objective mlm, got ", objective_name(config_.objective));
  MOLTIDE_CHECK(!trains_head() || model_.head(), "objective ", objective_name(config_.objective),
                joint() ? " with head_weight" : "", " needs a task head; set_head makes one");
  MOLTIDE_CHECK(!mlm || config_.mode != TrainMode::head,
                "mode head does not go with objective mlm");
  MOLTIDE_CHECK(!mlm || !config_.masking.residues.empty(),
                "objective mlm needs mlm_residues, the tokens that can be masked");
  MOLTIDE_CHECK(
      mlm || !needs_log_sigma(config_.objective, config_.column_losses) || model_.head()->log_sigma,
      "tobit needs a head with log_sigma");
  const int64_t kinds = static_cast<int64_t>(config_.column_losses.size());
  const int64_t expected =
      config_.objective == Objective::mixed ? model_.head()->config.outputs : 0;
  MOLTIDE_CHECK(kinds == expected, "objective ", objective_name(config_.objective), " with ", kinds,
                " column_losses, allowed ", expected);
  MOLTIDE_CHECK(config_.mode != TrainMode::lora || model_.adapter(config_.adapter),
                "mode lora: there is no adapter '", config_.adapter, "'");
  config_.masking.mask_token = model_.config().mask_token;
  choose_parameters();
  for (const Param* p : trained_)
    MOLTIDE_CHECK(!p->grad, "parameter '", p->name, "' is trained by another trainer already");
  place_parameters();
  MemoryPlan needed;
  needed.gradients = 4 * total_;
  needed.optimizer = 8 * total_;
  require_memory(needed, 0, concat("training ", total_, " parameters"),
                 "train an adapter or the head alone, or a smaller model");
  model_.unpack(trained_);
  moments_first_.assign(static_cast<size_t>(total_), 0.0f);
  moments_second_.assign(static_cast<size_t>(total_), 0.0f);
  grow(4 * total_);
  // Touched: from now on the system counts them as held, as require_memory takes them to be.
  zero_gradients(0, total_);
}

Trainer::~Trainer() {
  for (Param* p : trained_) p->grad = nullptr;
}

void Trainer::place_parameters() {
  const int64_t layers = model_.config().layers;
  std::map<const Param*, int64_t> half_of;
  for (int64_t i = 0; i < layers; ++i) {
    LayerWeights& l = model_.weights().layers[i];
    const BlockNorms norms = block_norms(model_.config(), model_.weights(), i);
    const auto place = [&](const HalfNorm& norm, int64_t half) {
      if (norm.weights) half_of[norm.weights->weight] = half_of[norm.weights->bias] = half;
    };
    half_of[l.q_norm.weight] = half_of[l.k_norm.weight] = 2 * i;
    half_of[l.beta] = 2 * i + 1;
    place(norms.attention, 2 * i);
    place(norms.mlp, 2 * i + 1);
    for (int j = 0; j < kProjections; ++j) {
      const auto p = static_cast<Projection>(j);
      const int64_t half = p <= Projection::out ? 2 * i : 2 * i + 1;
      half_of[projection(l, p).weight] = half_of[projection(l, p).bias] = half;
      if (config_.mode != TrainMode::lora) continue;
      const LoraPair* pair = model_.adapter(config_.adapter)->pair(i, p);
      if (pair) half_of[pair->a] = half_of[pair->b] = half;
    }
  }
  offset_.resize(trained_.size());
  for (int64_t half = 0; half <= 2 * layers; ++half) {
    half_begin_.push_back(total_);
    for (size_t i = 0; i < trained_.size(); ++i) {
      const auto found = half_of.find(trained_[i]);
      if ((found == half_of.end() ? 2 * layers : found->second) != half) continue;
      offset_[i] = total_;
      total_ += (trained_[i]->size() + 15) / 16 * 16;
    }
  }
}

void Trainer::grow(int64_t bytes) {
  arena_.reserve(bytes);
  gradients_ = reinterpret_cast<float*>(arena_.base() + arena_.capacity()) - total_;
  for (size_t i = 0; i < trained_.size(); ++i) trained_[i]->grad = gradients_ + offset_[i];
}

void Trainer::choose_parameters() {
  const bool mlm = config_.objective == Objective::mlm;
  if (config_.mode == TrainMode::full) {
    for (Param& p : model_.weights().table.params()) {
      if (p.buffer || starts_with(p.name, "contact.") || (!mlm && starts_with(p.name, "lm_head.")))
        continue;
      trained_.push_back(&p);
    }
  } else if (config_.mode == TrainMode::lora) {
    for (Param& p : model_.adapter(config_.adapter)->table.params()) trained_.push_back(&p);
  }
  if (trains_head()) {
    for (Param& p : model_.head()->table.params())
      if (needs_log_sigma(config_.objective, config_.column_losses) ||
          &p != model_.head()->log_sigma)
        trained_.push_back(&p);
  }
}

void Trainer::set_dataset(Dataset data) {
  MOLTIDE_CHECK(!data.offsets.empty() && data.offsets[0] == 0 &&
                    data.offsets.back() == static_cast<int64_t>(data.tokens.size()),
                "dataset: offsets must run from 0 to the number of tokens, ", data.tokens.size());
  for (size_t i = 1; i < data.offsets.size(); ++i)
    MOLTIDE_CHECK(data.offsets[i] > data.offsets[i - 1], "dataset: sequence ", i - 1,
                  " has no token");
  for (size_t t = 0; t < data.tokens.size(); ++t)
    MOLTIDE_CHECK(data.tokens[t] >= 0 && data.tokens[t] < model_.config().vocab, "dataset: token ",
                  data.tokens[t], ", allowed 0 .. ", model_.config().vocab - 1);
  const bool paired = model_.config().attention == AttentionKind::softmax_pair_bias;
  MOLTIDE_CHECK(data.coordinates.size() == (paired ? 3 * data.tokens.size() : 0),
                "dataset: ", data.coordinates.size(), " coordinates for ", data.tokens.size(),
                " tokens, ", paired ? "3 for each are needed" : "the model has no use for any");
  const bool described = model_.config().pair_width > 0;
  MOLTIDE_CHECK(data.token_ids.empty() != described, "dataset: ",
                described ? "no categories of tokens and pairs, which the model needs"
                          : "the model has no use for categories of tokens and pairs");
  if (described) {
    const size_t pairs = static_cast<size_t>(data.pair_starts.back());
    MOLTIDE_CHECK(data.pair_starts.size() == data.offsets.size() &&
                      data.token_ids.size() == data.tokens.size() * kTokenCategories &&
                      data.pair_ids.size() == pairs * kPairCategories,
                  "dataset: ", data.token_ids.size(), " and ", data.pair_ids.size(),
                  " categories of ", data.tokens.size(), " tokens and ", pairs, " pairs, ",
                  kTokenCategories, " and ", kPairCategories, " for each are needed");
    check_categories(data.token_ids.data(), data.tokens.size());
  }
  if (trains_head()) {
    const HeadConfig& head = model_.head()->config;
    data.per_residue = head.pool == HeadConfig::Input::residue;
    check_dataset(joint() ? Objective::mse : config_.objective, data, head.outputs);
    const int64_t rows = data.per_residue ? data.offsets.back() : data.size();
    MOLTIDE_CHECK(static_cast<int64_t>(data.targets.size()) == rows * data.columns,
                  "dataset: ", data.targets.size(), " target values for ", rows, " rows of ",
                  data.columns);
    MOLTIDE_CHECK(data.censor.empty() || data.censor.size() == data.targets.size(),
                  "dataset: ", data.censor.size(), " censor values for ", data.targets.size(),
                  " targets");
  }
  MOLTIDE_CHECK(data.weights.empty() ||
                    static_cast<int64_t>(data.weights.size()) == data.size() * data.weight_columns,
                "dataset: ", data.weights.size(), " weights for ", data.size(), " sequences");
  data_ = std::move(data);
}

void Trainer::set_step_index(int64_t step) {
  MOLTIDE_CHECK(step >= 0, "step = ", step, ", allowed 0 or more");
  step_ = step;
}

PassShape Trainer::pass_shape(const BatchShape& batch) const {
  PassShape shape(batch);
  shape.act = model_.act();
  shape.train = true;
  shape.backward = config_.mode != TrainMode::head;
  shape.recompute = config_.recompute;
  shape.lm_head = config_.objective == Objective::mlm;
  if (config_.mode == TrainMode::lora) {
    const auto adapter = model_.adapter(config_.adapter);
    shape.lora_rank = adapter->rank;
    shape.lora_dropout = adapter->dropout > 0;
  }
  return shape;
}

MemoryPlan Trainer::plan(const BatchShape& batch, int64_t micro_batches) {
  PassActivations pass;
  HeadActivations head;
  MemoryPlan plan;
  for (Param* p : model_.params()) plan.weights += p->source ? 0 : p->size() * 4;
  const EncoderConfig& c = model_.config();
  if (config_.redraw_features) plan.weights += 4 * c.layers * c.head_dim * c.features;
  plan.packed_weights = model_.packed_bytes_total(config_.mode != TrainMode::head);
  plan.gradients = 4 * total_;
  plan.optimizer = 2 * plan.gradients;
  plan.activations = arena_bytes(batch, micro_batches == 1, pass, head) - plan.gradients;
  return plan;
}

int64_t Trainer::lay_out(const BatchShape& batch, char* base, PassActivations& pass,
                         HeadActivations& head) const {
  Cursor cursor(base);
  plan_pass(model_.config(), pass_shape(batch), cursor, pass);
  if (trains_head())
    head = plan_head(model_.head()->config, model_.config().width, batch.tokens, batch.batch, true,
                     cursor);
  return cursor.peak();
}

int64_t Trainer::arena_bytes(const BatchShape& batch, bool single, PassActivations& pass,
                             HeadActivations& head) const {
  const int64_t activations = lay_out(batch, nullptr, pass, head);
  // A later micro-batch would write its activations over the gradients of the first.
  if (!single) return activations + 4 * total_;
  // While the backward passes a half: activations up to there, gradients from there on.
  int64_t bytes = activations + 4 * (total_ - half_begin_.back());
  for (size_t i = 0; i < pass.half_ends.size(); ++i)
    bytes = std::max(bytes, pass.half_ends[i] + 4 * (total_ - half_begin_[i]));
  return bytes;
}

double Trainer::run_micro_batch(MicroBatch& micro, int64_t index, const LossScale& scale,
                                bool single) {
  const bool mlm = config_.objective == Objective::mlm;
  AdapterSegment segment{0, micro.batch.count(), nullptr};
  if (config_.mode == TrainMode::lora) segment.adapter = model_.adapter(config_.adapter);
  PassContext pass = model_.context(micro.batch, {&segment, segment.adapter ? 1u : 0u});
  pass.train = true;
  pass.seed = config_.seed;
  pass.draw = static_cast<uint64_t>(step_ * kMicroBatchesPerStep + index);
  if (!features_.empty()) pass.features = features_.data();
  lay_out(micro.batch.shape(), arena_.base(), pass_, head_pass_);

  encoder_forward(pass, pass_);
  if (mlm) lm_head_forward(pass, pass_);
  if (trains_head()) head_forward(pass, *model_.head(), pass_.y, head_pass_);
  const auto loss_of = [&](Objective objective, double by) {
    return by * objective_loss(objective, config_.column_losses, data_, micro, config_.huber_delta,
                               by, model_.head(), head_pass_, pass_);
  };
  double loss = loss_of(config_.objective, scale.objective);
  const bool backward = config_.mode != TrainMode::head;
  if (mlm) lm_head_backward(pass, pass_);
  if (joint()) {
    loss += loss_of(Objective::mse, scale.head);
    // What the masked-LM head computed last is read no more.
    head_backward(pass, *model_.head(), head_pass_, pass_.lm_g);
    residual_add(pass_.dy, pass_.lm_g, 1.0f);
  } else if (!mlm) {
    head_backward(pass, *model_.head(), head_pass_, backward ? pass_.dy : Tensor{});
  }
  HalfSink before;
  if (single) before = [this](int64_t i) { zero_gradients(half_begin_[i], half_begin_[i + 1]); };
  if (backward) encoder_backward(pass, pass_, before);
  return loss;
}

double Trainer::accumulate(const std::vector<int64_t>& rows, int64_t* tokens) {
  MOLTIDE_CHECK(data_.size() > 0, "the trainer has no dataset; set_dataset first");
  MOLTIDE_CHECK(!rows.empty(), "a step needs at least one row");
  for (int64_t row : rows)
    MOLTIDE_CHECK(row >= 0 && row < data_.size(), "row ", row, " of a dataset of ", data_.size());
  const int64_t n = static_cast<int64_t>(rows.size());
  std::vector<int64_t>& ends = micro_ends_;
  micro_batches(rows.data(), n, data_.offsets.data(), config_.max_tokens, ends);
  MOLTIDE_CHECK(static_cast<int64_t>(ends.size()) <= kMicroBatchesPerStep, "a step of ",
                ends.size(), " micro-batches, allowed ", kMicroBatchesPerStep,
                "; raise max_tokens or use smaller batches");
  if (micro_.size() < ends.size()) micro_.resize(ends.size());

  // Weights first: the gradient's scale is that of all micro-batches together.
  const bool single = ends.size() == 1;
  double weight = 0, head_weight = 0;
  int64_t bytes = 0;
  *tokens = 0;
  for (size_t i = 0, begin = 0; i < ends.size(); begin = static_cast<size_t>(ends[i]), ++i) {
    MicroBatch& micro = micro_[i];
    micro.gather(data_, rows.data() + begin, ends[i] - static_cast<int64_t>(begin));
    *tokens += micro.batch.count();
    if (config_.objective == Objective::mlm) {
      const uint64_t draw = static_cast<uint64_t>(step_ * kMicroBatchesPerStep) + i;
      mask_residues(config_.masking, config_.seed,
                    random_stream(draw, 0, static_cast<uint32_t>(RandomSite::masking)), micro.batch,
                    micro.labels);
    } else {
      prepare_labels(config_.objective, micro);
    }
    weight += objective_weight(config_.objective, data_, micro);
    if (joint()) head_weight += objective_weight(Objective::mse, data_, micro);
    bytes = std::max(bytes, arena_bytes(micro.batch.shape(), single, pass_, head_pass_));
  }
  if (bytes > arena_.capacity()) {
    MemoryPlan needed;
    needed.gradients = 4 * total_;
    needed.activations = bytes - needed.gradients;
    require_memory(needed, arena_.capacity(), "a training step",
                   "lower max_tokens, turn recompute on, or train on shorter sequences");
    grow(bytes);
  }
  // Those of layers wait for their turn where activations still lie in their place.
  zero_gradients(single ? half_begin_.back() : 0, total_);
  const LossScale scale{weight > 0 ? 1.0 / weight : 0.0,
                        head_weight > 0 ? config_.head_weight / head_weight : 0.0};
  if (config_.redraw_features)
    draw_features(model_.config(), config_.seed,
                  static_cast<uint64_t>(step_ * kMicroBatchesPerStep), features_);
  double loss = 0;
  for (size_t i = 0; i < ends.size(); ++i)
    loss += run_micro_batch(micro_[i], static_cast<int64_t>(i), scale, single);
  return loss;
}

void Trainer::zero_gradients(int64_t begin, int64_t end) {
  std::memset(gradients_ + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
}

StepResult Trainer::step(const std::vector<int64_t>& rows) {
  std::lock_guard<ForkMutex> lock(model_.mutex());
  StepResult result;
  result.loss = accumulate(rows, &result.tokens);
  result.grad_norm = std::sqrt(sum_squares(gradients_, total_));
  result.lr = config_.lr * schedule_ratio(config_.schedule, step_);
  MOLTIDE_CHECK(std::isfinite(result.loss) && std::isfinite(result.grad_norm), "step ", step_,
                ": loss ", result.loss, " and gradient norm ", result.grad_norm,
                " are not finite; the weights are as before this step. Lower the learning rate or "
                "check the targets");
  const double clip = config_.clip_norm > 0 && result.grad_norm > config_.clip_norm
                          ? config_.clip_norm / result.grad_norm
                          : 1.0;
  ++step_;
  for (size_t i = 0; i < trained_.size(); ++i) {
    Param& p = *trained_[i];
    const bool head = starts_with(p.name, "head.");
    adamw(p.value, p.grad, first_moment(i), second_moment(i), p.size(),
          static_cast<float>(result.lr * (head ? config_.head_lr_scale : 1.0)),
          static_cast<float>(config_.beta1), static_cast<float>(config_.beta2),
          static_cast<float>(config_.eps),
          p.decay ? static_cast<float>(config_.weight_decay) : 0.0f, step_,
          static_cast<float>(clip));
    ++p.version;
  }
  result.sequences = static_cast<int64_t>(rows.size());
  result.step = step_;
  return result;
}

double Trainer::gradients(const std::vector<int64_t>& rows,
                          const std::function<void(const Param&)>& each) {
  std::lock_guard<ForkMutex> lock(model_.mutex());
  int64_t tokens = 0;
  const double loss = accumulate(rows, &tokens);
  for (const Param* p : trained_) each(*p);
  return loss;
}

}  // namespace moltide
