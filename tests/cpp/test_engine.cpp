// Model and Trainer end to end on tiny shapes: sanitizers watch, and a few facts that must hold.
#include <gtest/gtest.h>

#include <cmath>

#include "core/parallel.h"
#include "core/philox.h"
#include "train/trainer.h"

namespace moltide {
namespace {

EncoderConfig tiny(bool variants) {
  EncoderConfig c;
  c.layers = 2;
  c.width = 24;
  c.heads = 3;
  c.head_dim = 8;
  c.ffn_width = 40;
  c.vocab = 33;
  c.token_dropout = true;
  c.lm_head = true;
  c.contact_head = true;
  if (variants) {
    c.position = Position::learned;
    c.max_positions = 70;
    c.position_offset = 2;
    c.embed_norm = true;
    c.activation = Activation::swiglu;
    c.attn_bias = c.mlp_bias = false;
    c.residual_scale = 0.5;
    c.hidden_dropout = c.attention_dropout = 0.1;
    c.tie_lm_head = false;
  }
  return c;
}

void randomise(Model& model) {
  uint64_t stream = 0;
  for (Param* p : model.params()) {
    ++stream;
    for (int64_t i = 0; i < p->size(); ++i) {
      const float u = philox_uniform(philox4x32(1, static_cast<uint64_t>(i), stream).v[0]);
      p->value[i] = 0.4f * (u - 0.5f) + (p->name.ends_with("norm.weight") ? 1.0f : 0.0f);
    }
    ++p->version;
  }
}

Dataset data_for(Objective objective, int64_t outputs) {
  Dataset d;
  d.offsets = {0};
  for (int64_t length : {3, 17, 1, 40, 9}) {
    for (int64_t i = 0; i < length; ++i) d.tokens.push_back(static_cast<int32_t>(4 + (i * 7) % 20));
    d.offsets.push_back(static_cast<int64_t>(d.tokens.size()));
  }
  d.columns = target_columns(objective, outputs);
  for (int64_t i = 0; i < d.size() * d.columns; ++i)
    d.targets.push_back(objective == Objective::mse && i == 1 ? NAN : static_cast<float>(i % 2));
  return d;
}

TEST(Engine, TrainsInEveryModeAndObjective) {
  for (const bool variants : {false, true})
    for (const DType act : {DType::f32, DType::bf16})
      for (const TrainMode mode : {TrainMode::full, TrainMode::lora, TrainMode::head})
        for (const Objective objective :
             {Objective::mse, Objective::cross_entropy, Objective::tobit, Objective::mlm}) {
          if (objective == Objective::mlm && mode == TrainMode::head) continue;
          Model model(tiny(variants), act);
          HeadConfig head;
          head.outputs = 2;
          head.hidden = variants ? 5 : 0;
          head.dropout = variants ? 0.2 : 0.0;
          head.log_sigma = true;
          model.set_head(head, 3);
          model.add_adapter("a", 3, 6.0, variants ? 0.1 : 0.0,
                            {"attn.q", "attn.out", "mlp.up", "mlp.down"}, 5);
          randomise(model);
          TrainConfig config;
          config.mode = mode;
          config.adapter = "a";
          config.objective = objective;
          config.lr = 1e-2;
          config.schedule.kind = Schedule::constant;
          config.max_tokens = 30;
          config.recompute = variants;
          config.masking.residues = {4, 11, 18};
          Trainer trainer(model, config);
          trainer.set_dataset(data_for(objective, 2));
          double first = 0, last = 0;
          for (int i = 0; i < 12; ++i) {
            last = trainer.step({0, 1, 2, 3, 4}).loss;
            if (i == 0) first = last;
            ASSERT_TRUE(std::isfinite(last));
          }
          if (!variants && objective != Objective::mlm) {
            EXPECT_LT(last, first);
          }
        }
}

// What another thread may do between the parts of a call.
TEST(Engine, AdapterAndHeadMayGoBeforeThePass) {
  Model model(tiny(false), DType::f32);
  model.set_head({}, 1);
  model.add_adapter("a", 2, 4.0, 0.0, {"mlp.up"}, 5);
  randomise(model);
  PackedBatch batch;
  batch.clear();
  const std::vector<int32_t> tokens(9, 5);
  batch.append(tokens.data(), 9);
  const auto segments = model.segments({"a"}, batch);
  std::vector<float> before(24), after(24);
  model.pooled(batch, segments, Pool::mean, before.data());
  model.remove_adapter("a");
  model.pooled(batch, segments, Pool::mean, after.data());
  EXPECT_EQ(before, after);
  HeadConfig wider;
  wider.outputs = 3;
  model.set_head(wider, 1);
  std::vector<float> out(3);
  EXPECT_THROW(model.predict(batch, {}, f32_tensor(out.data(), 1, 1)), std::invalid_argument);
  model.predict(batch, {}, f32_tensor(out.data(), 1, 3));
}

TEST(Engine, InfersAfterTrainingAndInAnyShape) {
  Model model(tiny(false), DType::f32);
  model.set_head({}, 1);
  model.add_adapter("a", 2, 4.0, 0.0, {"mlp.up"}, 5);
  randomise(model);
  PackedBatch batch;
  batch.clear();
  std::vector<int32_t> tokens(64, 5);
  for (int64_t length : {2, 5, 31}) batch.append(tokens.data(), length);
  const auto segments = model.segments({"", "a", "a"}, batch);
  ASSERT_EQ(segments.size(), 1u);
  EXPECT_EQ(segments[0].begin, 2);
  std::vector<float> hidden(3 * 38 * 24), pooled(3 * 24), logits(38 * 33), predicted(3);
  model.hidden(batch, segments, true, hidden.data());
  model.pooled(batch, segments, Pool::mean, pooled.data());
  model.logits(batch, {}, logits.data());
  model.predict(batch, segments, f32_tensor(predicted.data(), 3, 1));
  std::vector<float> contacts(0 + 9 + 29 * 29), probs(3 * (4 + 25 + 31 * 31));
  model.contacts(batch, {}, contacts.data());
  model.attention(batch, {}, 1, probs.data());
  for (float p : contacts) EXPECT_TRUE(p >= 0 && p <= 1);
  double sum = 0;
  for (float p : probs) sum += p;
  EXPECT_NEAR(sum, 3 * 38, 1e-3);
  EXPECT_THROW(model.segments({"zzz", "", ""}, batch), std::invalid_argument);
}

TEST(Engine, TrainerHoldsWhatItTrains) {
  Model model(tiny(false), DType::f32);
  model.set_head({}, 1);
  {
    Trainer trainer(model, TrainConfig{});
    EXPECT_THROW(model.remove_head(), std::invalid_argument);
    EXPECT_THROW(Trainer(model, TrainConfig{}), std::invalid_argument);
    EXPECT_THROW(model.set_head({}, 2), std::invalid_argument);
  }
  model.remove_head();
  EXPECT_EQ(model.head(), nullptr);
}

}  // namespace
}  // namespace moltide
