#include "model/weights.h"

#include <cstring>
#include <new>

namespace moltide {

AlignedBytes allocate_aligned(int64_t bytes) {
  const int64_t rounded = (bytes + 63) / 64 * 64;
  char* data =
      static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(rounded ? rounded : 64)));
  if (!data) throw MemoryPlanFailure(concat("the system refused ", rounded, " bytes for weights"));
  return AlignedBytes(data);
}

Param* ParamTable::add(std::string name, std::vector<int64_t> shape, bool decay) {
  params_.push_back({std::move(name), std::move(shape), decay});
  return &params_.back();
}

int64_t ParamTable::size() const {
  int64_t n = 0;
  for (const Param& p : params_) n += (p.size() + 15) / 16 * 16;
  return n;
}

void ParamTable::allocate() {
  const int64_t bytes = size() * 4;
  storage_ = allocate_aligned(bytes);
  std::memset(storage_.get(), 0, static_cast<size_t>(bytes));
  float* next = reinterpret_cast<float*>(storage_.get());
  for (Param& p : params_) {
    p.value = next;
    next += (p.size() + 15) / 16 * 16;
  }
}

Param* ParamTable::find(const std::string& name) {
  for (Param& p : params_)
    if (p.name == name) return &p;
  return nullptr;
}

const PackedMatrix& Packed::get(const Param& w, bool transpose, float scale, DType dtype) {
  if (version_ == w.version && scale_ == scale && storage_ && matrix_.dtype == dtype)
    return matrix_;
  const int64_t rows = w.shape[0], cols = w.shape[1];
  const int64_t n = transpose ? cols : rows, k = transpose ? rows : cols;
  const int64_t bytes = packed_bytes(n, k, dtype);
  if (!storage_ || bytes != bytes_) {
    storage_ = allocate_aligned(bytes);
    bytes_ = bytes;
  }
  pack_matrix(w.value, cols, transpose, n, k, scale, dtype, storage_.get());
  matrix_ = {storage_.get(), n, k, dtype};
  version_ = w.version;
  scale_ = scale;
  return matrix_;
}

const PackedInt8& PackedWeightInt8::get(const Param& w) {
  if (version_ == w.version && storage_) return matrix_;
  const int64_t n = w.shape[0], k = w.shape[1];
  if (!storage_) storage_ = allocate_aligned(packed_int8_bytes(n, k));
  pack_int8(w.value, k, n, k, storage_.get());
  matrix_ = {storage_.get(), n, k};
  version_ = w.version;
  return matrix_;
}

EncoderWeights::EncoderWeights(const EncoderConfig& c) {
  const int64_t width = c.width, inner = c.heads * c.head_dim;
  auto norm = [&](NormWeights& n, const std::string& name) {
    n.weight = table.add(name + ".weight", {width}, false);
    n.bias = table.add(name + ".bias", {width}, false);
  };
  auto linear = [&](Linear& l, const std::string& name, int64_t in, int64_t out, bool bias) {
    l.weight = table.add(name + ".weight", {out, in}, true);
    if (bias) l.bias = table.add(name + ".bias", {out}, false);
  };
  tokens = table.add("embed.tokens.weight", {c.vocab, width}, true);
  if (c.position == Position::learned)
    positions = table.add("embed.positions.weight", {c.max_positions, width}, true);
  if (c.embed_norm) norm(embed_norm, "embed.norm");
  for (int64_t i = 0; i < c.layers; ++i) {
    LayerWeights& l = layers.emplace_back();
    const std::string at = "layers." + std::to_string(i) + ".";
    norm(l.attn_norm, at + "attn_norm");
    linear(l.q, at + "attn.q", width, inner, c.attn_bias);
    linear(l.k, at + "attn.k", width, inner, c.attn_bias);
    linear(l.v, at + "attn.v", width, inner, c.attn_bias);
    linear(l.out, at + "attn.out", inner, width, c.attn_bias);
    norm(l.mlp_norm, at + "mlp_norm");
    if (c.activation == Activation::swiglu)
      linear(l.gate, at + "mlp.gate", width, c.ffn_width, c.mlp_bias);
    linear(l.up, at + "mlp.up", width, c.ffn_width, c.mlp_bias);
    linear(l.down, at + "mlp.down", c.ffn_width, width, c.mlp_bias);
  }
  if (c.final_norm) norm(final_norm, "final_norm");
  if (c.lm_head) {
    linear(lm_dense, "lm_head.dense", width, width, true);
    norm(lm_norm, "lm_head.norm");
    lm_decoder.weight =
        c.tie_lm_head ? tokens : table.add("lm_head.decoder.weight", {c.vocab, width}, true);
    lm_decoder.bias = table.add("lm_head.bias", {c.vocab}, false);
  }
  if (c.contact_head) {
    contact_weight = table.add("contact.weight", {1, c.layers * c.heads}, true);
    contact_bias = table.add("contact.bias", {1}, false);
  }
  table.allocate();
}

}  // namespace moltide
