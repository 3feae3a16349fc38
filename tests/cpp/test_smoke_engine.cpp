// Small whole models, so that the sanitizers see the arena, the packing and the training step.
#include <map>

#include "heap.h"
#include "train/trainer.h"

namespace moltide::test {
namespace {

EncoderConfig esm_like() {
  EncoderConfig c;
  c.layers = 2;
  c.width = 24;
  c.heads = 2;
  c.head_dim = 12;
  c.ffn_width = 36;
  c.vocab = 33;
  c.token_dropout = c.lm_head = c.contact_head = true;
  c.hidden_dropout = 0.1;
  c.attention_dropout = 0.1;
  return c;
}

EncoderConfig gated() {
  EncoderConfig c = esm_like();
  c.activation = Activation::swiglu;
  c.attn_bias = c.mlp_bias = false;
  c.token_dropout = c.contact_head = false;
  c.hidden_dropout = c.attention_dropout = 0.0;
  c.tie_lm_head = false;
  return c;
}

EncoderConfig learned_positions() {
  EncoderConfig c = esm_like();
  c.position = Position::learned;
  c.max_positions = 40;
  c.position_offset = 2;
  c.embed_norm = true;
  c.final_norm = c.token_dropout = false;
  return c;
}

void fill(Model& model) {
  uint32_t seed = 1;
  for (Param* p : model.params()) {
    const bool gain = p->name.find("norm.weight") != std::string::npos;
    for (int64_t i = 0; i < p->size(); ++i) p->value[i] = 0.3f * value(seed, i) + (gain ? 1 : 0);
    ++p->version;
    ++seed;
  }
}

constexpr int32_t kResidues = 20;

// Sequences of the given numbers of residues, with <cls> and <eos>.
Dataset dataset(const std::vector<int64_t>& lengths, Objective objective, int64_t columns) {
  Dataset d;
  d.columns = columns;
  d.offsets.push_back(0);
  for (size_t s = 0; s < lengths.size(); ++s) {
    d.tokens.push_back(0);
    for (int64_t i = 0; i < lengths[s]; ++i)
      d.tokens.push_back(static_cast<int32_t>(4 + (7 * i + static_cast<int64_t>(s)) % kResidues));
    d.tokens.push_back(2);
    d.offsets.push_back(static_cast<int64_t>(d.tokens.size()));
    for (int64_t c = 0; c < columns; ++c) {
      const float v = value(99, static_cast<int64_t>(s) * columns + c);
      const bool discrete = objective == Objective::bce || objective == Objective::cross_entropy;
      d.targets.push_back(discrete ? (v > 0) : v);
      if (objective == Objective::tobit || objective == Objective::ranking)
        d.censor.push_back(static_cast<int8_t>(static_cast<int>(s) % 3 - 1));
    }
  }
  return d;
}

void expect_finite(const std::vector<float>& values, const char* what) {
  for (float v : values) ASSERT_TRUE(std::isfinite(v)) << what;
}

class SmokeEngine : public EachIsa {};

TEST_P(SmokeEngine, Inference) {
  for (const auto& config : {esm_like(), gated(), learned_positions()}) {
    Model model(config, dtype());
    fill(model);
    model.set_head(HeadConfig{.hidden = 5, .outputs = 3}, 3);
    model.add_adapter("lab", 3, 6.0, 0.1, {"attn.q", "attn.v", "mlp.up"}, 5);
    const Dataset d = dataset({5, 1, 0, 30}, Objective::mse, 0);
    const std::vector<int32_t> cu(d.offsets.begin(), d.offsets.end());
    PackedBatch batch;
    batch.assign(d.tokens.data(), static_cast<int64_t>(d.tokens.size()), cu.data(), 4, 33);
    const size_t t = d.tokens.size(), width = static_cast<size_t>(config.width);
    const auto mixed = model.segments({"lab", "", "lab", ""}, batch);
    std::vector<float> hidden(3 * t * width), pooled(4 * width), logits(t * 33), predicted(4 * 3);
    model.hidden(batch, mixed, true, hidden.data());
    model.pooled(batch, mixed, Pool::mean, pooled.data());
    model.logits(batch, mixed, logits.data());
    model.predict(batch, mixed, predicted.data());
    expect_finite(hidden, "hidden");
    expect_finite(pooled, "pooled");
    expect_finite(logits, "logits");
    expect_finite(predicted, "predicted");
    std::vector<float> maps(2 * (7 * 7 + 3 * 3 + 2 * 2 + 32 * 32));
    model.attention(batch, mixed, 1, maps.data());
    expect_finite(maps, "attention");
    if (!config.contact_head) continue;
    std::vector<float> contacts(5 * 5 + 1 + 0 + 30 * 30);
    model.contacts(batch, mixed, contacts.data());
    expect_finite(contacts, "contacts");
  }
}

using Gradients = std::map<std::string, std::vector<float>>;

Gradients train(const EncoderConfig& config, DType act, Objective objective, TrainMode mode,
                bool recompute, int64_t max_tokens) {
  Model model(config, act);
  fill(model);
  HeadConfig head{.hidden = 4, .outputs = 2, .dropout = 0.1};
  head.log_sigma = objective == Objective::tobit;
  if (objective != Objective::mlm) model.set_head(head, 3);
  if (mode == TrainMode::lora)
    model.add_adapter("lab", 2, 4.0, 0.2, {"attn.q", "attn.k", "attn.v", "attn.out"}, 5);
  TrainConfig settings;
  settings.mode = mode;
  settings.adapter = mode == TrainMode::lora ? "lab" : "";
  settings.objective = objective;
  settings.schedule.total_steps = 4;
  settings.recompute = recompute;
  settings.max_tokens = max_tokens;
  for (int32_t r = 0; r < kResidues; ++r) settings.masking.residues.push_back(4 + r);
  Trainer trainer(model, settings);
  trainer.set_dataset(dataset({9, 1, 30, 4, 17}, objective, target_columns(objective, 2)));
  Gradients gradients;
  for (int step = 0; step < 2; ++step) {
    const StepResult result = trainer.step({4, 0, 2, 1, 3});
    EXPECT_TRUE(std::isfinite(result.loss) && std::isfinite(result.grad_norm));
  }
  trainer.gradients({0, 1, 2, 3}, [&](const Param& p) {
    gradients[p.name] = std::vector<float>(p.grad, p.grad + p.size());
    expect_finite(gradients[p.name], p.name.c_str());
  });
  EXPECT_FALSE(gradients.empty());
  return gradients;
}

TEST_P(SmokeEngine, EveryObjectiveAndMode) {
  using enum Objective;
  for (Objective objective : {mse, huber, cross_entropy, bce, ranking, tobit, mlm}) {
    for (TrainMode mode : {TrainMode::full, TrainMode::lora, TrainMode::head}) {
      if (objective == mlm && mode == TrainMode::head) continue;
      train(esm_like(), dtype(), objective, mode, false, 25);
    }
  }
}

TEST_P(SmokeEngine, RecomputationKeepsEveryBit) {
  for (const auto& config : {esm_like(), gated(), learned_positions()}) {
    for (Objective objective : {Objective::mse, Objective::mlm}) {
      const auto stored = train(config, dtype(), objective, TrainMode::full, false, 40);
      const auto again = train(config, dtype(), objective, TrainMode::full, true, 40);
      EXPECT_EQ(stored, again);
    }
  }
}

MOLTIDE_EACH_ISA(SmokeEngine);

}  // namespace
}  // namespace moltide::test
