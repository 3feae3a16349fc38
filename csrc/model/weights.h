// Weights: float32 master parameters by name, and their packed copies for the matmuls.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core/aligned.h"
#include "core/check.h"
#include "core/value_source.h"
#include "matmul/matmul.h"
#include "matmul_i8/matmul_i8.h"
#include "model/config.h"

namespace moltide {

// A parameter loaded from a checkpoint that matmuls alone read (`packed_only`) stays in its file:
// the packed copy is made from there, and the values come into memory when somebody needs them.
struct Param {
  std::string name;
  std::vector<int64_t> shape;  // one or two sizes
  bool decay = true;           // weight decay applies (not to norms and biases)
  bool packed_only = false;
  bool buffer = false;     // saved and loaded with the rest, never trained
  float* value = nullptr;  // null while the values lie in `source` alone
  float* room = nullptr;   // where `value` points otherwise
  std::shared_ptr<const ValueSource> source{};
  float* grad = nullptr;  // set while a trainer trains this parameter, else null
  uint64_t version = 0;   // grows with every change, so that packed copies know they are stale

  int64_t size() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
  // The values in memory; `source` is dropped. Throws CheckpointFailure when it cannot be read.
  float* resident();
  // Takes the values from `from`, or leaves them there until they are needed.
  void load(std::shared_ptr<const ValueSource> from);
  // As if written by the caller through the result: whatever was there is forgotten.
  float* overwrite();
  void copy_to(float* out) const;
};

// Owns the values of its parameters in one block; addresses are stable. Pages that no value was
// written to take no memory.
class ParamTable {
 public:
  Param* add(std::string name, std::vector<int64_t> shape, bool decay);
  void allocate();  // once, after the last add; values start at zero
  Param* find(const std::string& name);
  std::deque<Param>& params() { return params_; }
  const std::deque<Param>& params() const { return params_; }
  int64_t size() const;

 private:
  std::deque<Param> params_;
  ZeroPages storage_;
};

// A parameter packed for matmul; repacked only when the parameter, or how it is wanted, has
// changed.
class Packed {
 public:
  // transpose = false: y = x w^T (forward); true: y = x w (backward).
  const PackedMatrix& get(const Param& w, bool transpose, float scale, DType dtype);
  // A trained one changes with every step: it is packed where it is used, and kept by this thread
  // until it asks for the next.
  PackedMatrix get_passing(const Param& w, bool transpose, DType dtype);
  void release();
  int64_t bytes() const { return bytes_; }

 private:
  AlignedBytes storage_;
  int64_t bytes_ = 0;
  PackedMatrix matrix_{};
  uint64_t version_ = ~uint64_t{0};
  float scale_ = 0;
};

// The same for the 8-bit product, forward alone.
class PackedWeightInt8 {
 public:
  const PackedInt8& get(const Param& w);

 private:
  AlignedBytes storage_;
  PackedInt8 matrix_{};
  uint64_t version_ = ~uint64_t{0};
};

struct Linear {
  Param* weight = nullptr;  // (out, in)
  Param* bias = nullptr;    // (out), null: none
  Packed forward, backward;
  PackedWeightInt8 int8;

  int64_t in() const { return weight->shape[1]; }
  int64_t out() const { return weight->shape[0]; }
  const float* bias_value() const { return bias ? bias->value : nullptr; }
};

struct NormWeights {
  Param* weight = nullptr;
  Param* bias = nullptr;  // null: none
  float eps = 0;
};

struct LayerWeights {
  NormWeights attn_norm, mlp_norm;      // of each half: before it or after it (norms.h)
  NormWeights q_norm, k_norm;           // QK-norm alone
  Linear q, k, v, out, up, down, gate;  // gate: SwiGLU alone
  Param* beta = nullptr;                // (1) SwiGLU's slope, where it is learned
  Param* features = nullptr;            // (D, M), linear attention
};

// Of the bias from pairs' distances: a factor and an offset for each edge type (token of the query
// times vocabulary plus token of the key), the Gaussians, and the MLP to one value a head.
struct PairWeights {
  Param *mul = nullptr, *bias = nullptr;    // (V*V, 1)
  Param *means = nullptr, *stds = nullptr;  // (1, K)
  Linear hidden, heads;                     // K -> K -> H
};

// Of a stream of pairs (pair_stream.h), Dp wide: what describes its pairs and their tokens, and the
// Gaussians of a distance, whose edge types are those of two tokens, and an MLP K -> K -> Dp.
struct PairStreamWeights {
  Param *atoms = nullptr, *degrees = nullptr, *virtual_token = nullptr;  // (512, C) (128, C) (1, C)
  Param *paths = nullptr, *bonds = nullptr, *virtual_pair = nullptr;  // (512, Dp) (64, Dp) (1, Dp)
  Param *mul = nullptr, *bias = nullptr;                              // (512, 1)
  Param* means = nullptr;                                             // (K)
  Linear hidden, out;
  NormWeights norm;
};

struct PairStreamLayer {
  Linear bias;                 // Dp -> H
  NormWeights outer_norm;      // (C)
  Linear outer_in, outer_out;  // C -> 2h, h*h -> Dp
  Param outer_rows;            // outer_out as (Dp*h, h): its values, packed so
  Packed outer_view, outer_view_back;
  NormWeights triangle_norm, triangle_out_norm;  // (Dp), (h)
  Linear triangle_ab, triangle_ab_gate;          // Dp -> 2h
  Linear triangle_gate, triangle_out;            // Dp -> Dp, h -> Dp
  NormWeights mlp_norm;                          // (Dp)
  Linear up, down;                               // Dp -> Dp

  // All but outer_out, which is packed as `outer_view`.
  std::array<Linear*, 8> packed() {
    return {&bias,          &outer_in,     &triangle_ab, &triangle_ab_gate,
            &triangle_gate, &triangle_out, &up,          &down};
  }
};

struct EncoderWeights {
  explicit EncoderWeights(const EncoderConfig& config);

  ParamTable table;
  Param* tokens = nullptr;
  Param* positions = nullptr;
  NormWeights embed_norm, final_norm;
  PairWeights pair;  // softmax_pair_bias without a stream of pairs
  PairStreamWeights pair_stream;
  std::deque<PairStreamLayer> pair_layers;
  std::deque<LayerWeights> layers;
  Linear lm_dense, lm_decoder;
  NormWeights lm_norm;
  Param* contact_weight = nullptr;
  Param* contact_bias = nullptr;
};

}  // namespace moltide
