#include "bind/convert.h"

#include <algorithm>

namespace moltide {
namespace {

// One list of fields serves reading and writing.
template <class Visitor>
void visit(Visitor& f, EncoderConfig& c) {
  f.read("layers", c.layers);
  f.read("width", c.width);
  f.read("heads", c.heads);
  f.read("head_dim", c.head_dim);
  f.read("ffn_width", c.ffn_width);
  f.read("vocab", c.vocab);
  f.choice(
      "position", c.position,
      {{"rotary", Position::rotary}, {"learned", Position::learned}, {"none", Position::none}});
  f.read("max_positions", c.max_positions);
  f.read("position_offset", c.position_offset);
  f.read("rope_base", c.rope_base);
  f.read("rope_inv_freq", c.rope_inv_freq);
  f.choice("norm", c.norm, {{"layernorm", Norm::layernorm}, {"rmsnorm", Norm::rmsnorm}});
  f.choice("norm_place", c.norm_place, {{"pre", NormPlace::pre}, {"post", NormPlace::post}});
  f.read("attn_residual_normed", c.attn_residual_normed);
  f.read("norm_eps", c.norm_eps);
  f.read("qk_norm", c.qk_norm);
  f.choice("activation", c.activation,
           {{"gelu", Activation::gelu},
            {"swiglu", Activation::swiglu},
            {"relu", Activation::relu},
            {"tanh", Activation::tanh}});
  f.read("swiglu_beta", c.swiglu_beta);
  f.choice("attention", c.attention,
           {{"softmax", AttentionKind::softmax},
            {"softmax_pair_bias", AttentionKind::softmax_pair_bias},
            {"linear", AttentionKind::linear}});
  f.read("pair_basis", c.pair_basis);
  f.read("pair_width", c.pair_width);
  f.read("pair_hidden", c.pair_hidden);
  f.read("pair_dropout", c.pair_dropout);
  f.read("qkv_bias", c.qkv_bias);
  f.read("attn_bias", c.attn_bias);
  f.read("mlp_bias", c.mlp_bias);
  f.read("residual_scale", c.residual_scale);
  f.read("token_dropout", c.token_dropout);
  f.read("mask_ratio_train", c.mask_ratio_train);
  f.read("embed_norm", c.embed_norm);
  f.read("final_norm", c.final_norm);
  f.read("final_norm_bias", c.final_norm_bias);
  f.read("embed_dropout", c.embed_dropout);
  f.read("hidden_dropout", c.hidden_dropout);
  f.read("attention_dropout", c.attention_dropout);
  f.read("lm_head", c.lm_head);
  f.read("tie_lm_head", c.tie_lm_head);
  f.read("contact_head", c.contact_head);
  f.read("lm_bias", c.lm_bias);
  f.read("lm_norm_eps", c.lm_norm_eps);
  f.read("features", c.features);
  f.read("linear_eps", c.linear_eps);
  f.read("pool_specials", c.pool_specials);
  f.read("pad_token", c.pad_token);
  f.read("mask_token", c.mask_token);
  f.read("cls_token", c.cls_token);
  f.read("eos_token", c.eos_token);
}

template <class Visitor>
void visit(Visitor& f, HeadConfig& c) {
  f.choice("pool", c.pool,
           {{"mean", HeadConfig::Input::mean},
            {"cls", HeadConfig::Input::cls},
            {"none", HeadConfig::Input::residue}});
  f.choice("form", c.form, {{"tanh", HeadConfig::Form::tanh}, {"skip", HeadConfig::Form::skip}});
  f.read("hidden", c.hidden);
  f.read("outputs", c.outputs);
  f.read("dropout", c.dropout);
  f.read("log_sigma", c.log_sigma);
}

struct Writer {
  py::dict values;
  template <class T>
  void read(const char* name, const T& value) {
    values[name] = value;
  }
  template <class T>
  void choice(const char* name, const T& value,
              std::initializer_list<std::pair<const char*, T>> allowed) {
    for (const auto& option : allowed)
      if (option.second == value) values[name] = option.first;
  }
};

template <class Config>
Config from_dict(const py::dict& values, const char* what) {
  Config config;
  Fields fields(values, what);
  visit(fields, config);
  fields.finish();
  return config;
}

template <class Config>
py::dict to_dict(Config config) {
  Writer writer;
  visit(writer, config);
  return writer.values;
}

}  // namespace

EncoderConfig encoder_config(const py::dict& values) {
  return from_dict<EncoderConfig>(values, "encoder config");
}
py::dict encoder_config_dict(const EncoderConfig& config) {
  return to_dict(config);
}
HeadConfig head_config(const py::dict& values) {
  return from_dict<HeadConfig>(values, "head config");
}
py::dict head_config_dict(const HeadConfig& config) {
  return to_dict(config);
}

DType parse_dtype(const std::string& name) {
  if (name == "float32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  throw std::invalid_argument(concat("dtype '", name, "', allowed float32, bf16, int8"));
}

TermLoss parse_term_loss(const std::string& name) {
  if (name == "mse") return TermLoss::mse;
  if (name == "huber") return TermLoss::huber;
  if (name == "bce") return TermLoss::bce;
  if (name == "tobit") return TermLoss::tobit;
  throw std::invalid_argument(
      concat("loss of a column '", name, "', allowed mse, huber, bce, tobit"));
}

PackedBatch packed_batch(const IntArray& tokens, const IntArray& cu_seqlens, int64_t vocab,
                         const MaybeCoordinates& coordinates) {
  MOLTIDE_CHECK(tokens.ndim() == 1 && cu_seqlens.ndim() == 1,
                "tokens (T) and cu_seqlens (B + 1) have one dimension each, got ", tokens.ndim(),
                " and ", cu_seqlens.ndim());
  int64_t pairs = 0;
  for (int64_t b = 1; b < cu_seqlens.size(); ++b) {
    const int64_t length = int64_t{cu_seqlens.data()[b]} - cu_seqlens.data()[b - 1];
    pairs += length * length;
  }
  PackedBatch batch;
  batch.assign(tokens.data(), tokens.size(), cu_seqlens.data(), cu_seqlens.size() - 1, vocab,
               extras_of(coordinates, tokens.size(), pairs));
  return batch;
}

BatchShape batch_shape(const std::vector<int64_t>& lengths) {
  BatchShape shape;
  shape.batch = static_cast<int64_t>(lengths.size());
  for (int64_t l : lengths) {
    shape.tokens += l;
    shape.pairs += l * l;
    shape.longest = std::max(shape.longest, l);
  }
  return shape;
}

namespace {

template <class Array>
const auto* rows_of(const char* what, const Array& a, int64_t rows, int64_t cols,
                    const char* each) {
  MOLTIDE_CHECK(a.ndim() == 2 && a.shape(0) == rows && a.shape(1) == cols, what, " have shape ",
                py::str(a.attr("shape")).template cast<std::string>(), ", expected (", rows, ", ",
                cols, "): one row a ", each);
  return a.data();
}

}  // namespace

SequenceExtras extras_of(const MaybeCoordinates& coordinates, int64_t tokens, int64_t pairs) {
  SequenceExtras e;
  if (!coordinates) return e;
  const auto* all = std::get_if<Described>(&*coordinates);
  const FloatArray& where = all ? std::get<0>(*all) : std::get<FloatArray>(*coordinates);
  e.coordinates = rows_of("coordinates", where, tokens, 3, "token");
  if (!all) return e;
  e.token_ids =
      rows_of("categories of tokens", std::get<1>(*all), tokens, kTokenCategories, "token");
  e.pair_ids = rows_of("categories of pairs", std::get<2>(*all), pairs, kPairCategories, "pair");
  return e;
}

std::vector<py::ssize_t> numpy_shape(const std::vector<int64_t>& shape) {
  return {shape.begin(), shape.end()};
}

}  // namespace moltide
