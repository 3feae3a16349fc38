// A projection with whatever LoRA adapters its rows use: forward and backward side by side.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "core/philox.h"
#include "data/packer.h"
#include "model/activations.h"
#include "model/lora.h"

namespace moltide {

// Rows [begin, end) of the packed batch go through this adapter, which lives as long as the pass.
struct AdapterSegment {
  int64_t begin = 0, end = 0;
  std::shared_ptr<Adapter> adapter;
};

// What every op of one pass shares.
struct PassContext {
  const EncoderConfig& config;
  EncoderWeights& weights;
  const PackedBatch& batch;
  std::span<const AdapterSegment> segments;
  DType act = DType::f32;
  const float* rope_cos = nullptr;
  const float* rope_sin = nullptr;
  bool int8 = false;   // 8-bit matrix products in the encoder (model/int8.h)
  bool train = false;  // dropout is on, and what a backward reads is kept
  uint64_t seed = 0;
  uint64_t draw = 0;  // numbers the micro-batches of a run: dropout's place in the counter
  const float* features = nullptr;  // (layers, D, M) for linear attention; null: the stored ones

  uint64_t stream(int64_t layer, RandomSite site, int offset = 0) const;
};

// Where in the encoder a projection stands.
struct Site {
  int64_t layer;
  Projection projection;
};

bool has_adapter(const PassContext& pass, Site site);

// y (T, out) = epilogue(x W^T + b), plus the adapters. `gelu` keeps the pre-activation in *pre and
// works only without adapters at this site. lora: (T, rank), kept for the backward.
void linear_forward(const PassContext& pass, Linear& linear, Site site, const Tensor& x,
                    const Tensor& y, Epilogue epilogue, const Tensor* pre, const Tensor& lora,
                    const Workspace& ws);

// The adapters' part alone: lora =, y +=; an empty y leaves it at lora (all that a backward needs).
void adapters_forward(const PassContext& pass, Site site, const Tensor& x, const Tensor& y,
                      const Tensor& lora, const Workspace& ws);

// Whether linear_backward reads x: for the gradient of the weight or of an adapter. A projection
// without a weight (no gate) reads none.
bool reads_input(const PassContext& pass, const Linear& linear, Site site);

// dx = (+= when `accumulate`) dy W, plus the adapters' part; an empty dx is not computed.
// Gradients of trained weights, biases and adapters +=. dx may be x, which is read before.
void linear_backward(const PassContext& pass, Linear& linear, Site site, const Tensor& x,
                     const Tensor& dy, const Tensor& dx, bool accumulate, const Tensor& lora,
                     const Workspace& ws);

}  // namespace moltide
