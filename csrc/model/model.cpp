#include "model/model.h"

#include <cmath>
#include <cstring>
#include <set>

#include "contact/contact.h"
#include "core/env.h"
#include "core/expect.h"
#include "model/attend.h"
#include "model/pair_bias.h"
#include "model/pair_stream.h"
#include "residual/residual.h"
#include "rope/rope.h"

namespace moltide {
namespace {

EncoderConfig checked(const EncoderConfig& config) {
  config.validate();
  return config;
}

std::string mebibytes(int64_t bytes) {
  return concat((bytes + (1 << 20) - 1) >> 20, " MiB");
}

// A trainer points at what it trains: that must not go away under it.
void require_untrained(const ParamTable& table, const std::string& what) {
  for (const Param& p : table.params())
    MOLTIDE_CHECK(!p.grad, what, " is being trained; drop the trainer first");
}

int64_t largest_rank(Segments segments) {
  int64_t rank = 0;
  for (const AdapterSegment& s : segments) rank = std::max(rank, s.adapter->rank);
  return rank;
}

}  // namespace

void require_memory(const MemoryPlan& plan, int64_t held, const std::string& what,
                    const std::string& advice) {
  const int64_t missing = plan.total() - held;
  const int64_t free = available_memory();
  if (missing <= free) return;
  throw MemoryPlanFailure(
      concat(what, " needs ", mebibytes(plan.total()), " (weights ", mebibytes(plan.weights),
             ", packed weights ", mebibytes(plan.packed_weights), ", gradients ",
             mebibytes(plan.gradients), ", optimizer ", mebibytes(plan.optimizer), ", activations ",
             mebibytes(plan.activations), "), of which ", mebibytes(held), " are held and ",
             mebibytes(free), " are free; ", advice));
}

Model::Model(const EncoderConfig& config, DType act, bool int8)
    : config_(checked(config)), act_(act), int8_(int8), weights_(config) {}

std::shared_ptr<Adapter> Model::adapter(const std::string& name) {
  auto found = adapters_.find(name);
  return found == adapters_.end() ? nullptr : found->second;
}

std::vector<std::string> Model::adapter_names() const {
  std::vector<std::string> names;
  for (const auto& entry : adapters_) names.push_back(entry.first);
  return names;
}

std::vector<Param*> Model::params() {
  std::vector<Param*> all;
  for (Param& p : weights_.table.params()) all.push_back(&p);
  if (head_)
    for (Param& p : head_->table.params()) all.push_back(&p);
  for (auto& entry : adapters_)
    for (Param& p : entry.second->table.params()) all.push_back(&p);
  return all;
}

Param* Model::find(const std::string& name) {
  for (Param* p : params())
    if (p->name == name) return p;
  return nullptr;
}

void Model::load(const Sources& sources) {
  std::lock_guard<ForkMutex> lock(mutex_);
  for (const auto& [name, source] : sources) {
    Param* p = find(name);
    MOLTIDE_CHECK(p, "the model has no parameter '", name, "'");
    p->load(source);
  }
  auto pack = [&](Linear& l) {
    if (l.weight && l.weight->source) l.forward.get(*l.weight, false, 1.0f, act_);
  };
  for (LayerWeights& l : weights_.layers)
    for (Linear* linear : {&l.q, &l.k, &l.v, &l.out, &l.gate, &l.up, &l.down}) pack(*linear);
  for (PairStreamLayer& l : weights_.pair_layers)
    for (Linear* linear : l.packed()) pack(*linear);
  pack(weights_.lm_dense);
  pack(weights_.lm_decoder);
}

void Model::unpack(std::span<Param* const> params) {
  std::lock_guard<ForkMutex> lock(mutex_);
  // First what can fail: a model whose file is gone still computes with its packed copies.
  for (Param* p : params) p->resident();
  const std::set<const Param*> named(params.begin(), params.end());
  auto release = [&](Linear& l) {
    if (!named.contains(l.weight)) return;
    l.forward.release();
    l.backward.release();
  };
  for (LayerWeights& l : weights_.layers)
    for (Linear* linear : {&l.q, &l.k, &l.v, &l.out, &l.gate, &l.up, &l.down}) release(*linear);
  for (PairStreamLayer& l : weights_.pair_layers)
    for (Linear* linear : l.packed()) release(*linear);
  release(weights_.lm_dense);
  release(weights_.lm_decoder);
}

void Model::add_adapter(const std::string& name, int64_t rank, double alpha, double dropout,
                        const std::vector<std::string>& targets, uint64_t seed) {
  MOLTIDE_CHECK(!name.empty(), "an adapter needs a name");
  MOLTIDE_CHECK(!adapter(name), "there is an adapter '", name, "' already");
  adapters_[name] =
      std::make_shared<Adapter>(config_, weights_, name, rank, alpha, dropout, targets, seed);
}

void Model::remove_adapter(const std::string& name) {
  const auto found = adapter(name);
  MOLTIDE_CHECK(found, "there is no adapter '", name, "'");
  require_untrained(found->table, concat("adapter '", name, "'"));
  adapters_.erase(name);
}

void Model::merge_adapter(const std::string& name) {
  const auto found = adapter(name);
  MOLTIDE_CHECK(found, "there is no adapter '", name, "'");
  require_untrained(found->table, concat("adapter '", name, "'"));
  {
    std::lock_guard<ForkMutex> lock(mutex_);
    merge(*found, weights_);
  }
  remove_adapter(name);
}

void Model::remove_head() {
  std::lock_guard<ForkMutex> lock(mutex_);
  if (head_) require_untrained(head_->table, "the head");
  head_.reset();
}

void Model::set_head(const HeadConfig& config, uint64_t seed) {
  auto made = std::make_unique<Head>(config, config_.width, seed);
  remove_head();
  std::lock_guard<ForkMutex> lock(mutex_);
  head_ = std::move(made);
}

void Model::require_head() const {
  MOLTIDE_CHECK(head_, "the model has no task head; set_head makes one");
}

std::vector<AdapterSegment> Model::segments(const std::vector<std::string>& per_sequence,
                                            const PackedBatch& batch) {
  MOLTIDE_CHECK(static_cast<int64_t>(per_sequence.size()) == batch.batch(), "adapters named for ",
                per_sequence.size(), " sequences, the batch has ", batch.batch());
  std::vector<AdapterSegment> result;
  for (int64_t b = 0; b < batch.batch(); ++b) {
    if (per_sequence[b].empty()) continue;
    auto found = adapter(per_sequence[b]);
    MOLTIDE_CHECK(found, "there is no adapter '", per_sequence[b], "'");
    const int64_t begin = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
    if (!result.empty() && result.back().adapter == found && result.back().end == begin) {
      result.back().end = end;
    } else {
      result.push_back({begin, end, std::move(found)});
    }
  }
  return result;
}

PassContext Model::context(const PackedBatch& batch, Segments segments) {
  MOLTIDE_CHECK(config_.position != Position::learned ||
                    batch.longest + config_.position_offset <= config_.max_positions,
                "a sequence of ", batch.longest, " tokens; the learned positions reach ",
                config_.max_positions - config_.position_offset);
  if (config_.position == Position::rotary && batch.longest > rope_length_) {
    rope_length_ = std::max<int64_t>(batch.longest, 2 * rope_length_);
    const size_t n = static_cast<size_t>(rope_length_ * config_.head_dim / 2);
    rope_cos_.resize(n);
    rope_sin_.resize(n);
    if (config_.rope_inv_freq.empty())
      rope_table(rope_length_, config_.head_dim, config_.rope_base, rope_cos_.data(),
                 rope_sin_.data());
    else
      rope_table(rope_length_, config_.head_dim, config_.rope_inv_freq.data(), rope_cos_.data(),
                 rope_sin_.data());
  }
  const PassContext pass{config_,          weights_,         batch, segments, act_,
                         rope_cos_.data(), rope_sin_.data(), int8_};
  check_pairs(pass);
  check_pair_stream(pass);
  return pass;
}

int64_t Model::packed_bytes_total(bool backward) {
  int64_t bytes = 0, passing = 0;
  auto add = [&](const Linear& l) {
    if (!l.weight) return;
    if (l.weight->grad) {
      passing = std::max({passing, packed_bytes(l.out(), l.in(), act_),
                          backward ? packed_bytes(l.in(), l.out(), act_) : 0});
      return;
    }
    bytes += int8_ ? packed_int8_bytes(l.out(), l.in()) : packed_bytes(l.out(), l.in(), act_);
    if (backward) bytes += packed_bytes(l.in(), l.out(), act_);
  };
  for (const LayerWeights& l : weights_.layers)
    for (const Linear* linear : {&l.q, &l.k, &l.v, &l.out, &l.up, &l.down, &l.gate}) add(*linear);
  // Of pairs: kept, trained or not.
  const auto pack = [&](int64_t n, int64_t k, DType type) {
    bytes += packed_bytes(n, k, type) + (backward ? packed_bytes(k, n, type) : 0);
  };
  for (PairStreamLayer& l : weights_.pair_layers) {
    for (const Linear* linear : l.packed()) pack(linear->out(), linear->in(), act_);
    pack(config_.pair_width * config_.pair_hidden, config_.pair_hidden, DType::f32);
  }
  return bytes + passing;
}

MemoryPlan Model::plan(const BatchShape& batch, bool lm_head) {
  PassShape shape(batch);
  shape.act = act_;
  shape.int8 = int8_;
  shape.lm_head = lm_head;
  for (auto& entry : adapters_) shape.lora_rank = std::max(shape.lora_rank, entry.second->rank);
  Cursor cursor;
  PassActivations laid_out;
  plan_pass(config_, shape, cursor, laid_out);
  if (head_) plan_head(head_->config, config_.width, batch.tokens, batch.batch, false, cursor);
  MemoryPlan plan;
  for (Param* p : params()) plan.weights += p->source ? 0 : p->size() * 4;
  plan.packed_weights = packed_bytes_total(false);
  plan.activations = cursor.peak();
  return plan;
}

const PassActivations& Model::encode(const PassContext& pass, bool lm_head,
                                     const EncoderSinks& sinks) {
  PassShape shape(pass.batch.shape());
  shape.act = act_;
  shape.int8 = int8_;
  shape.lora_rank = largest_rank(pass.segments);
  shape.lm_head = lm_head;
  shape.keep_attention = static_cast<bool>(sinks.layer);
  auto lay_out = [&](char* base) {
    Cursor cursor(base);
    plan_pass(config_, shape, cursor, pass_);
    if (head_)
      head_pass_ =
          plan_head(head_->config, config_.width, shape.tokens, shape.batch, false, cursor);
    return cursor.peak();
  };
  const int64_t bytes = lay_out(nullptr);
  if (bytes > arena_.capacity()) {
    MemoryPlan needed;
    needed.activations = bytes;
    require_memory(
        needed, 0,
        concat("a batch of ", shape.tokens, " packed tokens in ", shape.batch, " sequences"),
        "use smaller batches or shorter sequences");
    arena_.reserve(bytes);
  }
  lay_out(arena_.base());
  encoder_forward(pass, pass_, sinks);
  if (lm_head) lm_head_forward(pass, pass_);
  return pass_;
}

void Model::hidden(const PackedBatch& batch, Segments segments, bool all_layers, float* out) {
  std::lock_guard<ForkMutex> lock(mutex_);
  const PassContext pass = context(batch, segments);
  const int64_t t = batch.count(), plane = t * config_.width;
  EncoderSinks sinks;
  if (all_layers)
    sinks.stream = [&](int64_t layer, const Tensor& x) {
      copy_cast(x, f32_tensor(out + layer * plane, t, config_.width));
    };
  const PassActivations& p = encode(pass, false, sinks);
  copy_cast(p.y, f32_tensor(out + (all_layers ? config_.layers * plane : 0), t, config_.width));
}

void Model::pooled(const PackedBatch& batch, Segments segments, Pool pool, float* out) {
  std::lock_guard<ForkMutex> lock(mutex_);
  const PassContext pass = context(batch, segments);
  const PassActivations& p = encode(pass, false, {});
  const Specials s = unpooled(config_);
  pool_fwd(pool, p.y, batch.cu_seqlens.data(), batch.batch(), s.first, s.last,
           f32_tensor(out, batch.batch(), config_.width));
}

void Model::logits(const PackedBatch& batch, Segments segments, float* out) {
  std::lock_guard<ForkMutex> lock(mutex_);
  MOLTIDE_CHECK(config_.lm_head, "the model has no masked-LM head");
  const PassContext pass = context(batch, segments);
  const PassActivations& p = encode(pass, true, {});
  copy_cast(p.logits, f32_tensor(out, batch.count(), config_.vocab));
}

int64_t Model::predict_rows(const PackedBatch& batch) const {
  require_head();
  return head_->config.pool == HeadConfig::Input::residue ? batch.count() : batch.batch();
}

void Model::predict(const PackedBatch& batch, Segments segments, const Tensor& out, float* input) {
  std::lock_guard<ForkMutex> lock(mutex_);
  expect_shape("predict", "out", out, predict_rows(batch), head_->config.outputs);
  const PassContext pass = context(batch, segments);
  const PassActivations& p = encode(pass, false, {});
  head_forward(pass, *head_, p.y, head_pass_);
  copy_cast(head_pass_.pred, out);
  if (input) copy_cast(head_pass_.input, f32_tensor(input, out.rows, config_.width));
}

void Model::contacts(const PackedBatch& batch, Segments segments, float* out) {
  std::lock_guard<ForkMutex> lock(mutex_);
  MOLTIDE_CHECK(config_.contact_head, "the model has no contact head");
  const PassContext pass = context(batch, segments);
  const Specials s = specials(config_);
  std::vector<float> probs;
  std::vector<int64_t> offsets(1, 0);
  for (int64_t b = 0; b < batch.batch(); ++b) {
    const int64_t l = batch.cu_seqlens[b + 1] - batch.cu_seqlens[b] - s.first - s.last;
    MOLTIDE_CHECK(l >= 0, "sequence ", b, " of the batch has no residue");
    offsets.push_back(offsets.back() + l * l);
  }
  std::memset(out, 0, static_cast<size_t>(offsets.back()) * sizeof(float));
  EncoderSinks sinks;
  sinks.layer = [&](int64_t layer, const LayerActivations& a) {
    for (int64_t b = 0; b < batch.batch(); ++b) {
      const int64_t begin = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
      probs.resize(static_cast<size_t>(config_.heads * (end - begin) * (end - begin)));
      attention_map(pass, layer, a, b, probs.data());
      contact_accumulate(probs.data(), config_.heads, end - begin, s.first, s.last,
                         weights_.contact_weight->value + layer * config_.heads, out + offsets[b]);
    }
  };
  encode(pass, false, sinks);
  contact_sigmoid(out, offsets.back(), weights_.contact_bias->value[0]);
}

void Model::attention(const PackedBatch& batch, Segments segments, int64_t wanted, float* out) {
  std::lock_guard<ForkMutex> lock(mutex_);
  MOLTIDE_CHECK(wanted >= 0 && wanted < config_.layers, "layer ", wanted, ", allowed 0 .. ",
                config_.layers - 1);
  const PassContext pass = context(batch, segments);
  EncoderSinks sinks;
  sinks.layer = [&](int64_t layer, const LayerActivations& a) {
    if (layer != wanted) return;
    float* next = out;
    for (int64_t b = 0; b < batch.batch(); ++b) {
      const int64_t begin = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
      attention_map(pass, layer, a, b, next);
      next += config_.heads * (end - begin) * (end - begin);
    }
  };
  encode(pass, false, sinks);
}

}  // namespace moltide
