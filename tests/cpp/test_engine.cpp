// Model and Trainer end to end on tiny shapes: sanitizers watch, and a few facts that must hold.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "tiny_model.h"

namespace moltide {
namespace {

EncoderConfig tiny(bool variants) {
  EncoderConfig c = tiny_config(3, 8);
  c.ffn_width = 40;
  c.token_dropout = true;
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

// A model with a head and an adapter "a".
std::unique_ptr<Model> adapted() {
  auto model = std::make_unique<Model>(tiny(false), DType::f32);
  model->set_head({}, 1);
  model->add_adapter("a", 2, 4.0, 0.0, {"mlp.up"}, 5);
  randomise(*model, 0.4f);
  return model;
}

Dataset data_for(Objective objective, int64_t outputs) {
  Dataset data = tiny_dataset({3, 17, 1, 40, 9}, objective, outputs);
  if (objective == Objective::mse) data.targets[1] = NAN;
  return data;
}

TEST(Engine, TrainsInEveryModeAndObjective) {
  for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::blocks})
    for (const DType act : {DType::f32, DType::bf16})
      for (const TrainMode mode : {TrainMode::full, TrainMode::lora, TrainMode::head})
        for (const Objective objective :
             {Objective::mse, Objective::cross_entropy, Objective::tobit, Objective::mlm}) {
          if (objective == Objective::mlm && mode == TrainMode::head) continue;
          const bool variants = recompute != Recompute::none;
          Model model(tiny(variants), act);
          HeadConfig head;
          head.outputs = 2;
          head.hidden = variants ? 5 : 0;
          head.dropout = variants ? 0.2 : 0.0;
          head.log_sigma = true;
          model.set_head(head, 3);
          model.add_adapter("a", 3, 6.0, variants ? 0.1 : 0.0,
                            {"attn.q", "attn.out", "mlp.up", "mlp.down"}, 5);
          randomise(model, 0.4f);
          TrainConfig config;
          config.mode = mode;
          config.adapter = "a";
          config.objective = objective;
          config.lr = 1e-2;
          config.schedule.kind = Schedule::constant;
          config.max_tokens = 30;
          config.recompute = recompute;
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

TEST(Engine, TrainsAndInfersEveryKindOfEncoder) {
  for (EncoderConfig kind : other_kinds(3, 8))
    for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::blocks})
      for (const DType act : {DType::f32, DType::bf16})
        for (const TrainMode mode : {TrainMode::full, TrainMode::lora})
          for (const Objective objective : {Objective::mse, Objective::mlm}) {
            kind.embed_dropout = kind.hidden_dropout = mode == TrainMode::full ? 0.1 : 0.0;
            Model model(kind, act);
            model.set_head({}, 3);
            model.add_adapter("a", 3, 6.0, 0.1, {"attn.k", "attn.out", "mlp.up"}, 5);
            randomise(model, 0.4f);
            TrainConfig config;
            config.mode = mode;
            config.adapter = "a";
            config.objective = objective;
            config.recompute = recompute;
            config.masking.residues = {4, 11, 18};
            Trainer trainer(model, config);
            trainer.set_dataset(data_for(objective, 1));
            // One micro-batch, whose gradients take the place of activations, then several.
            ASSERT_TRUE(std::isfinite(trainer.step({0, 2}).loss));
            ASSERT_TRUE(std::isfinite(trainer.step({0, 1, 2, 3, 4}).loss));
            const PackedBatch batch = tiny_batch({2, 50, 31});
            std::vector<float> hidden(3 * 83 * 24);
            model.hidden(batch, model.segments({"", "a", ""}, batch), true, hidden.data());
            for (float h : hidden) ASSERT_TRUE(std::isfinite(h));
          }
}

TEST(Engine, InfersEveryKindOfEncoderOnEightBits) {
  for (const EncoderConfig& kind : other_kinds(3, 8))
    for (const DType act : {DType::f32, DType::bf16}) {
      Model model(kind, act, true);
      model.add_adapter("a", 3, 6.0, 0.0, {"attn.q", "mlp.up", "mlp.down"}, 5);
      randomise(model, 0.4f);
      const PackedBatch batch = tiny_batch({2, 50, 31});
      std::vector<float> hidden(3 * 83 * 24), logits(83 * 33);
      model.hidden(batch, model.segments({"", "a", ""}, batch), true, hidden.data());
      model.logits(batch, {}, logits.data());
      for (float h : hidden) ASSERT_TRUE(std::isfinite(h));
      for (float l : logits) ASSERT_TRUE(std::isfinite(l));
    }
}

// What another thread may do between the parts of a call.
TEST(Engine, AdapterAndHeadMayGoBeforeThePass) {
  const auto owner = adapted();
  Model& model = *owner;
  const PackedBatch batch = tiny_batch({9});
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
  const auto owner = adapted();
  Model& model = *owner;
  const PackedBatch batch = tiny_batch({2, 5, 31});
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
