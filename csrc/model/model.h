// Model: an encoder, its adapters and its task head, with the memory that inference runs in.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/fork_mutex.h"
#include "model/encoder.h"
#include "model/head.h"

namespace moltide {

// Bytes of what a pass needs, by purpose.
struct MemoryPlan {
  int64_t weights = 0, packed_weights = 0, gradients = 0, optimizer = 0, activations = 0;
  int64_t total() const { return weights + packed_weights + gradients + optimizer + activations; }
};

using Segments = std::span<const AdapterSegment>;

class Model {
 public:
  // int8: matrix products of the encoder on 8-bit codes, all else in `act`; inference alone.
  Model(const EncoderConfig& config, DType act, bool int8 = false);

  const EncoderConfig& config() const { return config_; }
  DType act() const { return act_; }
  bool int8() const { return int8_; }
  EncoderWeights& weights() { return weights_; }
  Head* head() { return head_.get(); }
  std::shared_ptr<Adapter> adapter(const std::string& name);  // null: none of that name
  std::vector<std::string> adapter_names() const;
  // All parameters: encoder, head, adapters.
  std::vector<Param*> params();
  Param* find(const std::string& name);

  // Parameters by name, and where their values lie: read once here, checked and packed.
  using Sources = std::vector<std::pair<std::string, std::shared_ptr<const ValueSource>>>;
  void load(const Sources& sources);
  // Brings the values of `params` into memory, without the packed copies that loading made: a
  // trained weight is packed where it is used.
  void unpack(std::span<Param* const> params);

  void add_adapter(const std::string& name, int64_t rank, double alpha, double dropout,
                   const std::vector<std::string>& targets, uint64_t seed);
  void remove_adapter(const std::string& name);
  void merge_adapter(const std::string& name);
  void set_head(const HeadConfig& config, uint64_t seed);
  void remove_head();

  // One name per sequence of the batch ("" = none) -> runs of rows; throws for an unknown name.
  std::vector<AdapterSegment> segments(const std::vector<std::string>& per_sequence,
                                       const PackedBatch& batch);
  PassContext context(const PackedBatch& batch, Segments segments);

  // Inference. Outputs are the caller's, row-major float32.
  void hidden(const PackedBatch& batch, Segments segments, bool all_layers, float* out);
  void pooled(const PackedBatch& batch, Segments segments, Pool pool, float* out);
  void logits(const PackedBatch& batch, Segments segments, float* out);
  // out: (predict_rows, outputs), refused where the head was changed meanwhile.
  // input: null, or room for what the head reads, (rows, C): the bits of `pooled` (`hidden` for a
  // residue head).
  void predict(const PackedBatch& batch, Segments segments, const Tensor& out,
               float* input = nullptr);
  // out: one (l, l) matrix a sequence, l = its residues, one after the other.
  void contacts(const PackedBatch& batch, Segments segments, float* out);
  // out: one (H, L, L) array a sequence, one after the other.
  void attention(const PackedBatch& batch, Segments segments, int64_t layer, float* out);
  int64_t predict_rows(const PackedBatch& batch) const;

  // Bytes of inference over a batch of this shape (training: Trainer::plan).
  MemoryPlan plan(const BatchShape& batch, bool lm_head);
  int64_t packed_bytes_total(bool backward);

  ForkMutex& mutex() { return mutex_; }

 private:
  const PassActivations& encode(const PassContext& pass, bool lm_head, const EncoderSinks& sinks);
  void require_head() const;

  EncoderConfig config_;
  DType act_;
  bool int8_;
  EncoderWeights weights_;
  std::map<std::string, std::shared_ptr<Adapter>> adapters_;
  std::unique_ptr<Head> head_;
  std::vector<float> rope_cos_, rope_sin_;
  int64_t rope_length_ = 0;
  Arena arena_;
  PassActivations pass_;
  HeadActivations head_pass_;
  ForkMutex mutex_;
};

// Throws MemoryPlanFailure naming the parts when `plan` needs more than is free; `held` bytes of it
// are allocated already.
void require_memory(const MemoryPlan& plan, int64_t held, const std::string& what,
                    const std::string& advice);

}  // namespace moltide
