// What a pass computes of pairs of tokens, for attention with a pair bias.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

// Planes [head][key][query] f32 of each sequence, as attention_pair_bias has them. Training keeps
// those of all layers: `step` elements from a layer's bias to its scores, the next layer's bias.
// Inference has one array, step 0: each layer adds to it. With a stream of pairs each layer's bias
// lies where its scores will (`apart`).
struct PairPlanes {
  float* first = nullptr;
  int64_t step = 0;
  bool apart = false;

  float* bias(int64_t layer) const { return apart ? scores(layer) : first + layer * step; }
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
  Tensor rows;            // (N, H) f32  the bias; with a stream (N, Dp)
  Tensor drows;           // (N, H) Act  its gradient; with a stream (N, Dp)
  Tensor dfeatures;       // (N, K) f32
  void* basis = nullptr;  // gaussian_basis_bwd's workspace
};

// A stream of pairs. P pairs of all sequences, N a few of them at a time; L and Q those of the
// longest, its tokens and pairs; C, Dp, h the widths of tokens, pairs and products, K Gaussians.
// Act is the model's compute type.
struct PairStream {
  int64_t width = 0, chunk = 0;
  float* first = nullptr;  // (P, Dp) before the first layer
  int64_t step = 0;        // elements to the next layer's; inference 0: one for all
  float* dz = nullptr;     // (P, Dp) its gradient

  // The first: edges of two types, (types^2), and their gradients.
  float *mul = nullptr, *bias = nullptr, *dmul = nullptr, *dbias = nullptr;
  float* stds = nullptr;     // (K)
  int32_t* types = nullptr;  // (T)
  float* distances = nullptr;
  int32_t* edges = nullptr;
  Tensor features;        // (N, K)   Act  Gaussian basis
  Tensor inner, inner_u;  // (N, K)   Act  MLP: after and before its activation (backward)
  Tensor chunk_rows;      // (N, Dp)  f32
  Tensor chunk_act;       // (N, Dp)  Act
  Tensor bias_rows;       // (N, H)   f32
  Tensor dfeatures;       // (N, K)   f32
  void* basis = nullptr;  // gaussian_basis_bwd's workspace

  // One sequence's update.
  Tensor tokens;                // (L, C)   Act  normalised
  Tensor ab;                    // (L, 2h)  f32  the outer product's factors
  Tensor b;                     // (L, h)   f32  the second of them
  Tensor maps;                  // (some tokens, Dp * h) f32 from the first factor to the pairs
  float* outer_bias = nullptr;  // (Dp) scaled; backward: its gradient
  Tensor h;                     // (Q, Dp)  Act  normalised
  Tensor wide, gate;            // (Q, Dp)  f32  a branch and what gates it
  Tensor p, g, product;         // (Q, 2h)  f32  triangle: factors, their gates, gated
  float *planes = nullptr, *out_planes = nullptr;  // (2h, L, L), (h, L, L)
  Tensor rows, rows_act;  // (Q, h)   f32, Act  triangle product, normalised
  Tensor mask;            // (L, Dp)  f32  shared dropout
  Tensor act, u;          // (Q, Dp)  Act  MLP: after and before its activation (backward)
  float *mean2 = nullptr, *rstd2 = nullptr;  // (L)

  // Its backward.
  float *mean = nullptr, *rstd = nullptr;  // (Q)
  Tensor z1, z2;        // (Q, Dp)  f32  behind the outer and the triangle product
  Tensor dwide, dh;     // (Q, Dp)  f32
  Tensor dact;          // (Q, Dp)  Act
  Tensor drows;         // (Q, h)   f32
  Tensor dp, dg;        // (Q, 2h)  Act
  Tensor dab, dab_act;  // (L, 2h)  f32, Act
  Tensor dtokens;       // (L, C)   f32
  Tensor dmaps;         // as maps

  Tensor at(int64_t layer, int64_t begin, int64_t end) const {
    return f32_tensor(first + layer * step + begin * width, end - begin, width);
  }
  Tensor gradient(int64_t begin, int64_t end) const {
    return f32_tensor(dz + begin * width, end - begin, width);
  }
};

}  // namespace moltide
