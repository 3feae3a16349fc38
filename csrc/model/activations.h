// Activations: every tensor a pass needs, planned ahead in one arena. A counting Cursor predicts
// the bytes.
#pragma once
#include <cstdint>
#include <vector>

#include "core/arena.h"
#include "data/packer.h"
#include "model/config.h"
#include "model/pair_activations.h"

namespace moltide {

// What the backward computes again, to the same bits, beside norms and activations.
enum class Recompute : uint8_t {
  none,
  mlp,    // u, of one product: of a block's products a ninth more
  blocks  // all but each block's input
};

// What one block computes. Act = float32 or bf16, the model's compute type. Training keeps what is
// dear to compute again (Korthikanti et al. 2022, arXiv:2205.05198): h1, h2 and g, of one norm or
// activation each, and q and k behind a QK-norm, lie in memory that all layers share. Inference
// keeps nothing: tensors that are never alive together share their memory.
struct LayerActivations {
  Tensor h1;            // (T, C)   Act  attention's normalised input
  Tensor q, k, v;       // (T, H*D) Act  after QK-norm and the rotary embedding
  Tensor q_raw, k_raw;  // (T, H*D) Act before them: q and k themselves, or with QK-norm kept apart
  Tensor ctx;           // (T, H*D) Act  attention's output
  Tensor x_mid;         // (T, C)   f32  residual stream between attention and MLP, as x
  Tensor h2;            // (T, C)   Act  MLP's normalised input
  Tensor u;             // (T, F)   Act  before the activation; SwiGLU (T, 2F), gate first
  Tensor g;             // (T, F)   Act  after it
  Tensor lora[7];       // (T, rank) Act of each adapted projection
  // int8 inference: what the projections read of h1 and h2, of ctx, of g
  Int8Rows h8, ctx8, g8;
  PairPlanes pairs;  // pair bias
  // (H, T), training; with a pair bias (2, H, T), attention_pair_bias's statistics
  float* lse = nullptr;
  float *mean1 = nullptr, *rstd1 = nullptr, *mean2 = nullptr, *rstd2 = nullptr;      // (T)
  float *mean_q = nullptr, *rstd_q = nullptr, *mean_k = nullptr, *rstd_k = nullptr;  // QK-norm
  bool u_again = false;  // u is not kept but computed again in the backward
};

// Scratch of a block, shared by all layers.
struct Workspace {
  Tensor branch;            // (T, C)   f32  a branch before dropout or scaling, where they are used
  Tensor lora_in;           // (T, max(C, F, H*D)) Act  an adapter's input after dropout
  Tensor dg, du;            // (T, F) Act, where g lies; (T, F or 2F) Act
  Tensor dh;                // (T, C)   f32  gradient of a normalised input
  Tensor dbranch;           // (T, C)   Act  gradient of a branch, where dh lies
  Tensor dctx, dq, dk, dv;  // (T, H*D) Act
  Tensor dlora;             // (T, rank) Act
  Tensor dlora_in;          // (T, max) f32
  void* attention = nullptr;
  float* beta = nullptr;     // (T) scratch of the gradient of SwiGLU's slope
  float* dplanes = nullptr;  // pair bias
};

// What the shapes depend on besides the configuration.
struct PassShape : BatchShape {
  PassShape() = default;
  explicit PassShape(const BatchShape& batch) : BatchShape(batch) {}

  DType act = DType::f32;
  bool int8 = false;      // 8-bit matrix products; forward alone
  int64_t lora_rank = 0;  // largest rank in use; 0: no adapter
  bool lora_dropout = false;
  bool train = false;     // keep what the backward needs
  bool backward = false;  // blocks take part in the backward (false: only a head is trained)
  Recompute recompute = Recompute::none;
  bool lm_head = false;
  bool keep_attention = false;  // inference: q and k are read after their block
};

// Tokens of a batch by kind (first_block.h); empty where they are not asked for.
struct TokenKinds {
  int32_t* of = nullptr;      // (T)
  int32_t* number = nullptr;  // (V) of the token's kind, -1: not in the batch
  int32_t* place = nullptr;   // (V) of the first token of a kind
};

struct PassActivations {
  PassShape shape;
  // Residual stream (T, C) f32: input of each block and the end; with post-norm before the norm.
  std::vector<Tensor> x;
  std::vector<LayerActivations> layers;  // one a layer, or a single one that all share
  // Training: bytes from the base within which lies all that the backward reads and writes from
  // attention (2 i) or the MLP (2 i + 1) of block i on, down to the first block.
  std::vector<int64_t> half_ends;
  Workspace ws;
  float* token_scale = nullptr;  // (T)
  TokenKinds kinds;              // inference
  PairActivations pairs;         // pair bias
  PairStream stream;             // of pairs
  Tensor x_embed;                // (T, C) f32 before the embedding norm
  float *mean_embed = nullptr, *rstd_embed = nullptr;
  // (T, C) f32 what the blocks give: x's end, or its norm with post-norm (where y lies, if that is
  // the output)
  Tensor x_end;
  float *mean_closing = nullptr, *rstd_closing = nullptr;  // (T) of that norm
  float *mean_final = nullptr, *rstd_final = nullptr;      // (T)
  Tensor y;                                                // (T, C) f32 the encoder's output
  Tensor dy;                                               // (T, C) f32 gradient of y
  Tensor dx;  // (T, C) f32 gradient of the residual stream, where dy lies
  // masked-LM head
  Tensor y_act, lm_h;  // (T, C) Act
  Tensor lm_u, lm_g;   // (T, C) f32 before (training) and after the activation
  Int8Rows y8;         // (T, C) int8 inference: what the head's projections read
  float *mean_lm = nullptr, *rstd_lm = nullptr;
  Tensor logits;   // (T, V) f32
  Tensor dlogits;  // (T, V) Act
};

// Lays `into` out anew, in the memory its vectors have.
void plan_pass(const EncoderConfig& config, const PassShape& shape, Cursor& cursor,
               PassActivations& into);

}  // namespace moltide
