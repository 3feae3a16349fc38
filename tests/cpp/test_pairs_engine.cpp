// Model and Trainer of encoders that see pairs of tokens, end to end on tiny shapes: sanitizers
// watch.
#include <gtest/gtest.h>

#include <cmath>

#include "tiny_model.h"

namespace moltide {
namespace {

// With a pair bias alone, and with a stream of pairs.
EncoderConfig of_pairs(bool stream, double dropout) {
  EncoderConfig c = tiny_config(3, 8);
  c.attention = AttentionKind::softmax_pair_bias;
  c.position = Position::none;
  c.embed_norm = true;
  c.pair_basis = 9;
  c.hidden_dropout = c.attention_dropout = dropout;
  if (!stream) return c;
  c.pair_width = 13;
  c.pair_hidden = 5;
  c.pair_dropout = dropout;
  c.qkv_bias = false;
  c.final_norm = false;
  return c;
}

// What is known of tokens and pairs, all within what the tables hold.
struct Extras {
  std::vector<float> coordinates;
  std::vector<int16_t> token_ids, pair_ids;

  void add(int64_t length) {
    for (int64_t i = 0; i < 3 * length; ++i)
      coordinates.push_back(static_cast<float>(i * 37 % 11) * 0.4f);
    for (int64_t i = 0; i < length; ++i)
      for (int64_t f = 0; f < kTokenCategories; ++f)
        token_ids.push_back(static_cast<int16_t>(f + 1 == kTokenCategories ? -(i > 0) : i % 20));
    for (int64_t i = 0; i < length * length; ++i)
      for (int64_t f = 0; f < kPairCategories; ++f)
        pair_ids.push_back(static_cast<int16_t>(f + 1 == kPairCategories ? -(i % 3 > 0) : i % 64));
  }
};

Dataset dataset(std::initializer_list<int64_t> lengths, bool stream) {
  Dataset data = tiny_dataset(lengths, Objective::mse, 1);
  Extras extras;
  for (int64_t length : lengths) {
    extras.add(length);
    data.pair_starts.push_back(data.pair_starts.back() + length * length);
  }
  data.coordinates = extras.coordinates;
  if (!stream) return data;
  data.token_ids = extras.token_ids;
  data.pair_ids = extras.pair_ids;
  return data;
}

PackedBatch batch_of(std::initializer_list<int64_t> lengths, bool stream) {
  PackedBatch batch;
  batch.clear();
  for (int64_t length : lengths) {
    Extras extras;
    extras.add(length);
    batch.append(tiny_tokens(length).data(), length,
                 {extras.coordinates.data(), stream ? extras.token_ids.data() : nullptr,
                  stream ? extras.pair_ids.data() : nullptr});
  }
  return batch;
}

TEST(PairsEngine, TrainsAndInfers) {
  for (const bool stream : {false, true})
    for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::blocks})
      for (const DType act : {DType::f32, DType::bf16})
        for (const TrainMode mode : {TrainMode::full, TrainMode::lora, TrainMode::head}) {
          Model model(of_pairs(stream, mode == TrainMode::full ? 0.2 : 0.0), act);
          model.set_head({}, 3);
          model.add_adapter("a", 3, 6.0, 0.1, {"attn.k", "attn.out", "mlp.up"}, 5);
          randomise(model, 0.4f);
          TrainConfig config;
          config.mode = mode;
          config.adapter = "a";
          config.recompute = recompute;
          Trainer trainer(model, config);
          trainer.set_dataset(dataset({3, 17, 1, 21, 9}, stream));
          // One micro-batch, whose gradients take the place of activations, then several.
          ASSERT_TRUE(std::isfinite(trainer.step({0, 2}).loss));
          ASSERT_TRUE(std::isfinite(trainer.step({0, 1, 2, 3, 4}).loss));
          const PackedBatch batch = batch_of({2, 30, 19}, stream);
          std::vector<float> hidden(3 * 51 * 24);
          model.hidden(batch, model.segments({"", "a", ""}, batch), true, hidden.data());
          for (float h : hidden) ASSERT_TRUE(std::isfinite(h));
        }
}

TEST(PairsEngine, InfersOnEightBits) {
  for (const bool stream : {false, true})
    for (const DType act : {DType::f32, DType::bf16}) {
      Model model(of_pairs(stream, 0.0), act, true);
      randomise(model, 0.4f);
      const PackedBatch batch = batch_of({2, 30, 0, 19}, stream);
      std::vector<float> hidden(51 * 24);
      model.hidden(batch, {}, false, hidden.data());
      for (float h : hidden) ASSERT_TRUE(std::isfinite(h));
    }
}

TEST(PairsEngine, RefusesWhatIsMissing) {
  Model model(of_pairs(true, 0.0), DType::f32);
  const PackedBatch batch = batch_of({4}, false);
  std::vector<float> hidden(4 * 24);
  EXPECT_THROW(model.hidden(batch, {}, false, hidden.data()), std::invalid_argument);
  model.set_head({}, 3);
  Trainer trainer(model, {});
  EXPECT_THROW(trainer.set_dataset(dataset({4}, false)), std::invalid_argument);
  Dataset data = dataset({4}, true);
  data.pair_ids.pop_back();
  EXPECT_THROW(trainer.set_dataset(std::move(data)), std::invalid_argument);
}

}  // namespace
}  // namespace moltide
