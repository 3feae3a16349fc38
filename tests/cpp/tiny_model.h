// Tiny encoders with values of their own, and sequences for them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "core/philox.h"
#include "train/trainer.h"

namespace moltide {

// Two layers of `heads` x `head_dim` with a masked-LM head.
inline EncoderConfig tiny_config(int64_t heads, int64_t head_dim) {
  EncoderConfig c;
  c.layers = 2;
  c.heads = heads;
  c.head_dim = head_dim;
  c.width = heads * head_dim;
  c.ffn_width = 2 * c.width;
  c.vocab = 33;
  c.lm_head = true;
  return c;
}

// What other published encoders have beyond the above, in as few configs as go together.
inline std::vector<EncoderConfig> other_kinds(int64_t heads, int64_t head_dim) {
  EncoderConfig roberta = tiny_config(heads, head_dim);
  roberta.position = Position::learned;
  roberta.max_positions = 300;
  roberta.position_offset = 2;
  roberta.norm_place = NormPlace::post;
  roberta.embed_norm = true;
  roberta.final_norm = false;
  EncoderConfig esmc = tiny_config(heads, head_dim);
  esmc.qk_norm = true;
  esmc.activation = Activation::swiglu;
  esmc.attn_bias = esmc.mlp_bias = esmc.final_norm_bias = false;
  esmc.residual_scale = 1.3;
  EncoderConfig rinalmo = tiny_config(heads, head_dim);
  rinalmo.activation = Activation::swiglu;
  rinalmo.swiglu_beta = rinalmo.attn_residual_normed = rinalmo.token_dropout = true;
  EncoderConfig mixed = tiny_config(heads, head_dim);
  mixed.norm_place = NormPlace::post;
  mixed.qk_norm = true;
  return {roberta, esmc, rinalmo, mixed};
}

// Values within `spread` of each other: around 1 for the weights of norms and slopes, else around
// 0.
inline void randomise(Model& model, float spread) {
  uint64_t stream = 0;
  for (Param* p : model.params()) {
    ++stream;
    for (int64_t i = 0; i < p->size(); ++i) {
      const float u = philox_uniform(philox4x32(1, static_cast<uint64_t>(i), stream).v[0]);
      const bool one = p->name.ends_with("norm.weight") || p->name.ends_with(".beta");
      p->value[i] = spread * (u - 0.5f) + (one ? 1.0f : 0.0f);
    }
    ++p->version;
  }
}

inline std::vector<int32_t> tiny_tokens(int64_t length) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>(4 + i * 7 % 20));
  return tokens;
}

inline PackedBatch tiny_batch(std::initializer_list<int64_t> lengths) {
  PackedBatch batch;
  batch.clear();
  for (int64_t length : lengths) batch.append(tiny_tokens(length).data(), length);
  return batch;
}

// Targets are 0 and 1 in turn.
inline Dataset tiny_dataset(std::initializer_list<int64_t> lengths, Objective objective,
                            int64_t outputs) {
  Dataset data;
  data.offsets = {0};
  for (int64_t length : lengths) {
    const std::vector<int32_t> tokens = tiny_tokens(length);
    data.tokens.insert(data.tokens.end(), tokens.begin(), tokens.end());
    data.offsets.push_back(static_cast<int64_t>(data.tokens.size()));
  }
  data.columns = target_columns(objective, outputs);
  for (int64_t i = 0; i < data.size() * data.columns; ++i)
    data.targets.push_back(static_cast<float>(i % 2));
  return data;
}

}  // namespace moltide
