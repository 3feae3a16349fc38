// What a pass computes of pairs of tokens, for attention with a pair bias.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

// Planes [head][key][query] f32 of each sequence, as attention_pair_bias has them. Training keeps
// those of all layers: `step` elements from a layer's bias to its scores, the next layer's bias.
// Inference has one array, step 0: each layer adds to it.
struct PairPlanes {
  float* first = nullptr;
  int64_t step = 0;

  float* bias(int64_t layer) const { return first + layer * step; }
  float* scores(int64_t layer) const { return first + (layer + 1) * step; }
};

// The first layer's bias goes through the rest `chunk` pairs at a time; the backward computes it
// again.
struct PairActivations {
  int64_t pairs = 0, chunk = 0;
  PairPlanes planes;
  float* dplanes = nullptr;  // gradient of a layer's scores, then of its bias
  float* distances = nullptr;
  int32_t* edges = nullptr;
  Tensor features;        // (N, K) Act  Gaussian basis
  Tensor u, g;            // (N, K) Act  before (training) and after the activation
  Tensor rows;            // (N, H) f32  the bias
  Tensor drows;           // (N, H) Act  its gradient
  Tensor dfeatures;       // (N, K) f32
  void* basis = nullptr;  // gaussian_basis_bwd's workspace
};

}  // namespace moltide
