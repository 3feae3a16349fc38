#include "model/config.h"

#include "core/check.h"

namespace moltide {
namespace {

void positive(const char* field, int64_t value) {
  MOLTIDE_CHECK(value > 0 && value < (int64_t{1} << 31), "config: ", field, " = ", value,
                ", allowed 1 .. 2^31-1");
}
constexpr int64_t kMaxPairVocab = 4096;

void probability(const char* field, double value) {
  MOLTIDE_CHECK(value >= 0.0 && value < 1.0, "config: ", field, " = ", value, ", allowed [0, 1)");
}

}  // namespace

void EncoderConfig::validate() const {
  positive("layers", layers);
  positive("width", width);
  positive("heads", heads);
  positive("head_dim", head_dim);
  positive("ffn_width", ffn_width);
  positive("vocab", vocab);
  MOLTIDE_CHECK(head_dim % 4 == 0 && head_dim <= 256, "config: head_dim = ", head_dim,
                ", allowed multiples of 4 up to 256");
  MOLTIDE_CHECK(heads * head_dim <= (int64_t{1} << 20),
                "config: heads * head_dim = ", heads * head_dim, ", allowed up to 2^20");
  MOLTIDE_CHECK(norm_eps > 0 && norm_eps < 1, "config: norm_eps = ", norm_eps, ", allowed (0, 1)");
  MOLTIDE_CHECK(lm_norm_eps >= 0 && lm_norm_eps < 1, "config: lm_norm_eps = ", lm_norm_eps,
                ", allowed [0, 1)");
  MOLTIDE_CHECK(position != Position::learned || max_positions > position_offset,
                "config: learned positions need max_positions > position_offset, got ",
                max_positions, " and ", position_offset);
  MOLTIDE_CHECK(rope_base > 1, "config: rope_base = ", rope_base, ", allowed above 1");
  probability("embed_dropout", embed_dropout);
  probability("hidden_dropout", hidden_dropout);
  probability("attention_dropout", attention_dropout);
  probability("mask_ratio_train", mask_ratio_train);
  probability("pair_dropout", pair_dropout);
  MOLTIDE_CHECK(attention == AttentionKind::softmax_pair_bias || pair_width == 0,
                "config: pair_width = ", pair_width, ", allowed 0 without a pair bias");
  MOLTIDE_CHECK(rope_inv_freq.empty() || static_cast<int64_t>(rope_inv_freq.size()) == head_dim / 2,
                "config: rope_inv_freq has ", rope_inv_freq.size(),
                " values, allowed none or head_dim / 2 = ", head_dim / 2);
  MOLTIDE_CHECK(norm == Norm::layernorm, "config: norm = rmsnorm, this engine has layernorm");
  MOLTIDE_CHECK(!attn_residual_normed || norm_place == NormPlace::pre,
                "config: attn_residual_normed = true goes with norm_place = pre, got post");
  MOLTIDE_CHECK(!swiglu_beta || activation == Activation::swiglu,
                "config: swiglu_beta = true goes with activation = swiglu");
  const bool linear = attention == AttentionKind::linear;
  MOLTIDE_CHECK(linear ? features >= 1 && features <= 256 : features == 0,
                "config: features = ", features,
                ", allowed 1 .. 256 with attention = linear, else 0");
  MOLTIDE_CHECK(!linear || (linear_eps > 0 && linear_eps < 1), "config: linear_eps = ", linear_eps,
                ", allowed (0, 1)");
  MOLTIDE_CHECK(!linear || attention_dropout == 0,
                "config: attention_dropout = ", attention_dropout,
                ", allowed 0 with attention = linear, which has no probabilities to drop");
  MOLTIDE_CHECK(!linear || !contact_head,
                "config: contact_head = true, allowed false with attention = linear");
  if (attention == AttentionKind::softmax_pair_bias) {
    MOLTIDE_CHECK(pair_basis >= 1 && pair_basis <= 4096, "config: pair_basis = ", pair_basis,
                  ", allowed 1 .. 4096 with a pair bias");
    MOLTIDE_CHECK((pair_width > 0) == (pair_hidden > 0) && pair_width >= 0 && pair_hidden >= 0,
                  "config: pair_width = ", pair_width, " and pair_hidden = ", pair_hidden,
                  ", allowed both 0, or both above it");
    MOLTIDE_CHECK(vocab <= kMaxPairVocab, "config: vocab = ", vocab, ", allowed 1 .. ",
                  kMaxPairVocab, " with a pair bias, which has a type for each pair of tokens");
  }
}

}  // namespace moltide
