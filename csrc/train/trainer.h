// Trainer: forward, loss, backward over micro-batches; clip; AdamW. A step is a function of the
// weights, the rows named and (seed, step) alone, so a run that is resumed is the run that was
// never stopped.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "data/masking.h"
#include "model/model.h"
#include "train/objective.h"
#include "train/schedule.h"

namespace moltide {

enum class TrainMode { full, lora, head };

struct TrainConfig {
  TrainMode mode = TrainMode::full;
  std::string adapter;  // lora: which one
  Objective objective = Objective::mse;
  std::vector<TermLoss> column_losses;  // mixed: one an output
  double lr = 1e-4, head_lr_scale = 1.0, weight_decay = 0.01, beta1 = 0.9, beta2 = 0.999,
         eps = 1e-8;
  double clip_norm = 1.0;  // 0: no clipping
  ScheduleConfig schedule;
  uint64_t seed = 0;
  int64_t max_tokens = 2048;  // packed tokens of a micro-batch; more accumulate gradients
  Recompute recompute = Recompute::none;
  bool redraw_features = true;  // linear attention: new random features each step, as published
  double huber_delta = 1.0;
  MaskingConfig masking;
  double head_weight = 0.0;  // mlm: of the head's squared error beside the masked-LM loss
};

struct StepResult {
  double loss = 0;  // mean over the terms of the step
  double grad_norm = 0;
  double lr = 0;
  int64_t tokens = 0, sequences = 0, step = 0;
};

class Trainer {
 public:
  Trainer(Model& model, const TrainConfig& config);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // Throws std::invalid_argument where offsets, targets or labels do not fit together.
  void set_dataset(Dataset data);
  StepResult step(const std::vector<int64_t>& rows);
  // Loss and gradients of one step without an update; `each` sees every trained parameter.
  double gradients(const std::vector<int64_t>& rows, const std::function<void(const Param&)>& each);

  const std::vector<Param*>& trained() const { return trained_; }
  int64_t step_index() const { return step_; }
  void set_step_index(int64_t step);
  float* first_moment(size_t i) { return moments_first_.data() + offset_[i]; }
  float* second_moment(size_t i) { return moments_second_.data() + offset_[i]; }

  // Of a step of so many micro-batches, the largest of which has this shape. Bytes that gradients
  // and activations use in turn count as gradients.
  MemoryPlan plan(const BatchShape& batch, int64_t micro_batches);

 private:
  void choose_parameters();
  void place_parameters();
  PassShape pass_shape(const BatchShape& batch) const;
  int64_t lay_out(const BatchShape& batch, char* base, PassActivations& pass,
                  HeadActivations& head) const;
  int64_t arena_bytes(const BatchShape& batch, bool single, PassActivations& pass,
                      HeadActivations& head) const;
  void grow(int64_t bytes);
  double accumulate(const std::vector<int64_t>& rows, int64_t* tokens);
  // What the terms of each loss are multiplied by.
  struct LossScale {
    double objective = 0, head = 0;
  };
  // Of a trainer with a masked-LM objective: whether the head learns too.
  bool joint() const { return config_.head_weight > 0; }
  bool trains_head() const { return config_.objective != Objective::mlm || joint(); }
  double run_micro_batch(MicroBatch& micro, int64_t index, const LossScale& scale, bool single);
  void zero_gradients(int64_t begin, int64_t end);

  Model& model_;
  TrainConfig config_;
  Dataset data_;
  std::vector<Param*> trained_;
  // The flat buffers: attention (half 2 l) and MLP (2 l + 1) of each layer, then what is in none.
  std::vector<int64_t> offset_;      // of each trained parameter
  std::vector<int64_t> half_begin_;  // of each half, and of the rest
  int64_t total_ = 0;
  std::vector<float> moments_first_, moments_second_;
  std::vector<float> features_;  // of linear attention, the step's
  std::vector<MicroBatch> micro_;
  std::vector<int64_t> micro_ends_;
  // Activations from its begin, gradients up to its end. In a step of a single micro-batch these
  // take the place of activations whose backward is over.
  Arena arena_;
  float* gradients_ = nullptr;
  PassActivations pass_;
  HeadActivations head_pass_;
  int64_t step_ = 0;
};

}  // namespace moltide
