#include "model/weights.h"

#include <cstring>

#include "core/parallel.h"

namespace moltide {
namespace {

// The values of a parameter for as long as it is packed: its own, or a copy from its file.
class PassingValues {
 public:
  explicit PassingValues(const Param& w) : values_(w.value) {
    if (!w.source) return;
    // Pages of its own: the heap would keep holes of this size between the packed copies.
    copy_ = ZeroPages(w.size() * 4);
    w.copy_to(reinterpret_cast<float*>(copy_.get()));
    values_ = reinterpret_cast<const float*>(copy_.get());
  }
  const float* get() const { return values_; }

 private:
  ZeroPages copy_;
  const float* values_;
};

}  // namespace

float* Param::resident() {
  if (!source) return value;
  source->read(room);
  return overwrite();
}

float* Param::overwrite() {
  source.reset();
  value = room;
  return value;
}

void Param::load(std::shared_ptr<const ValueSource> from) {
  MOLTIDE_CHECK(from->size() == size(), "parameter '", name, "' has ", size(),
                " values, its source ", from->size());
  source = std::move(from);
  value = nullptr;
  ++version;
  if (!packed_only) resident();
}

void Param::copy_to(float* out) const {
  if (source)
    source->read(out);
  else
    std::memcpy(out, value, static_cast<size_t>(size()) * sizeof(float));
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
  storage_ = ZeroPages(size() * 4);
  float* next = reinterpret_cast<float*>(storage_.get());
  // What may stay in a file lies together, so that the rest shares no page with it.
  for (const bool packed_only : {false, true})
    for (Param& p : params_) {
      if (p.packed_only != packed_only) continue;
      p.room = p.value = next;
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
  const PassingValues values(w);
  if (!storage_ || bytes != bytes_) {
    storage_ = allocate_aligned(bytes);
    bytes_ = bytes;
  }
  pack_matrix(values.get(), cols, transpose, n, k, scale, dtype, storage_.get());
  matrix_ = {storage_.get(), n, k, dtype};
  version_ = w.version;
  scale_ = scale;
  return matrix_;
}

PackedMatrix Packed::get_passing(const Param& w, bool transpose, DType dtype) {
  release();
  const int64_t rows = w.shape[0], cols = w.shape[1];
  const int64_t n = transpose ? cols : rows, k = transpose ? rows : cols;
  const PassingValues values(w);
  void* to = thread_scratch(Scratch::weight, static_cast<size_t>(packed_bytes(n, k, dtype)));
  pack_matrix(values.get(), cols, transpose, n, k, 1.0f, dtype, to);
  return {to, n, k, dtype};
}

void Packed::release() {
  storage_.reset();
  bytes_ = 0;
}

const PackedInt8& PackedWeightInt8::get(const Param& w) {
  if (version_ == w.version && storage_) return matrix_;
  const int64_t n = w.shape[0], k = w.shape[1];
  const PassingValues values(w);
  if (!storage_) storage_ = allocate_aligned(packed_int8_bytes(n, k));
  pack_int8(values.get(), k, n, k, storage_.get());
  matrix_ = {storage_.get(), n, k};
  version_ = w.version;
  return matrix_;
}

EncoderWeights::EncoderWeights(const EncoderConfig& c) {
  const int64_t width = c.width, inner = c.heads * c.head_dim;
  auto norm = [&](NormWeights& n, const std::string& name, int64_t size, bool bias = true) {
    n.weight = table.add(name + ".weight", {size}, false);
    if (bias) n.bias = table.add(name + ".bias", {size}, false);
    n.eps = static_cast<float>(c.norm_eps);
  };
  auto linear = [&](Linear& l, const std::string& name, int64_t in, int64_t out, bool bias) {
    l.weight = table.add(name + ".weight", {out, in}, true);
    l.weight->packed_only = true;
    if (bias) l.bias = table.add(name + ".bias", {out}, false);
  };
  tokens = table.add("embed.tokens.weight", {c.vocab, width}, true);
  if (c.position == Position::learned)
    positions = table.add("embed.positions.weight", {c.max_positions, width}, true);
  if (c.embed_norm) norm(embed_norm, "embed.norm", width);
  const int64_t pair = c.pair_width, hidden = c.pair_hidden;
  if (pair > 0) {
    PairStreamWeights& p = pair_stream;
    p.atoms = table.add("embed.atoms.weight", {512, width}, true);
    p.degrees = table.add("embed.degrees.weight", {128, width}, true);
    p.virtual_token = table.add("embed.virtual.weight", {1, width}, true);
    p.paths = table.add("pair.paths.weight", {512, pair}, true);
    p.bonds = table.add("pair.bonds.weight", {64, pair}, true);
    p.virtual_pair = table.add("pair.virtual.weight", {1, pair}, true);
    p.mul = table.add("pair.mul.weight", {512, 1}, false);
    p.bias = table.add("pair.bias.weight", {512, 1}, false);
    p.means = table.add("pair.means", {c.pair_basis}, false);
    p.means->buffer = true;
    linear(p.hidden, "pair.hidden", c.pair_basis, c.pair_basis, true);
    linear(p.out, "pair.out", c.pair_basis, pair, true);
    p.hidden.weight->packed_only = p.out.weight->packed_only = false;
    norm(p.norm, "pair.norm", pair);
  } else if (c.attention == AttentionKind::softmax_pair_bias) {
    const int64_t types = c.vocab * c.vocab, basis = c.pair_basis;
    PairWeights& p = this->pair;
    p.mul = table.add("pair.mul.weight", {types, 1}, false);
    p.bias = table.add("pair.bias.weight", {types, 1}, false);
    p.means = table.add("pair.means.weight", {1, basis}, false);
    p.stds = table.add("pair.stds.weight", {1, basis}, false);
    linear(p.hidden, "pair.hidden", basis, basis, true);
    linear(p.heads, "pair.heads", basis, c.heads, true);
    p.hidden.weight->packed_only = p.heads.weight->packed_only = false;
  }
  for (int64_t i = 0; i < c.layers; ++i) {
    LayerWeights& l = layers.emplace_back();
    const std::string at = "layers." + std::to_string(i) + ".";
    norm(l.attn_norm, at + "attn_norm", width);
    const bool qkv_bias = c.attn_bias && c.qkv_bias;
    linear(l.q, at + "attn.q", width, inner, qkv_bias);
    linear(l.k, at + "attn.k", width, inner, qkv_bias);
    linear(l.v, at + "attn.v", width, inner, qkv_bias);
    linear(l.out, at + "attn.out", inner, width, c.attn_bias);
    if (c.qk_norm) {
      norm(l.q_norm, at + "attn.q_norm", inner, false);
      norm(l.k_norm, at + "attn.k_norm", inner, false);
    }
    if (c.attention == AttentionKind::linear) {
      l.features = table.add(at + "attn.features", {c.head_dim, c.features}, false);
      l.features->buffer = true;
    }
    norm(l.mlp_norm, at + "mlp_norm", width);
    if (c.activation == Activation::swiglu)
      linear(l.gate, at + "mlp.gate", width, c.ffn_width, c.mlp_bias);
    if (c.swiglu_beta) l.beta = table.add(at + "mlp.beta", {1}, false);
    linear(l.up, at + "mlp.up", width, c.ffn_width, c.mlp_bias);
    linear(l.down, at + "mlp.down", c.ffn_width, width, c.mlp_bias);
    if (pair == 0) continue;
    PairStreamLayer& p = pair_layers.emplace_back();
    linear(p.bias, at + "attn.pair", pair, c.heads, true);
    // Nobody reads what the last layer makes of its pairs: not decayed, it stays as it is.
    const bool read = i + 1 < c.layers;
    norm(p.outer_norm, at + "outer_norm", width);
    linear(p.outer_in, at + "outer.in", width, 2 * hidden, true);
    linear(p.outer_out, at + "outer.out", hidden * hidden, pair, true);
    p.outer_out.weight->packed_only = false;
    p.outer_rows.shape = {pair * hidden, hidden};
    norm(p.triangle_norm, at + "triangle_norm", pair);
    linear(p.triangle_ab, at + "triangle.ab", pair, 2 * hidden, true);
    linear(p.triangle_ab_gate, at + "triangle.ab_gate", pair, 2 * hidden, true);
    linear(p.triangle_gate, at + "triangle.gate", pair, pair, true);
    norm(p.triangle_out_norm, at + "triangle.out_norm", hidden);
    linear(p.triangle_out, at + "triangle.out", hidden, pair, true);
    norm(p.mlp_norm, at + "pair_mlp_norm", pair);
    linear(p.up, at + "pair_mlp.up", pair, pair, true);
    linear(p.down, at + "pair_mlp.down", pair, pair, true);
    for (Linear* m : {&p.outer_in, &p.outer_out, &p.triangle_ab, &p.triangle_ab_gate,
                      &p.triangle_gate, &p.triangle_out, &p.up, &p.down})
      m->weight->decay = read;
  }
  if (c.final_norm) norm(final_norm, "final_norm", width, c.final_norm_bias);
  if (c.lm_head) {
    linear(lm_dense, "lm_head.dense", width, width, true);
    norm(lm_norm, "lm_head.norm", width);
    if (c.lm_norm_eps > 0) lm_norm.eps = static_cast<float>(c.lm_norm_eps);
    if (c.tie_lm_head) {
      lm_decoder.weight = tokens;
    } else {
      lm_decoder.weight = table.add("lm_head.decoder.weight", {c.vocab, width}, true);
      lm_decoder.weight->packed_only = true;
    }
    if (c.lm_bias) lm_decoder.bias = table.add("lm_head.bias", {c.vocab}, false);
  }
  if (c.contact_head) {
    contact_weight = table.add("contact.weight", {1, c.layers * c.heads}, true);
    contact_bias = table.add("contact.bias", {1}, false);
  }
  table.allocate();
}

}  // namespace moltide
