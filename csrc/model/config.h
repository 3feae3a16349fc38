// EncoderConfig: what makes one published encoder differ from another.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "mlp_act/mlp_act.h"

namespace moltide {

enum class Position { rotary, learned, none };
enum class Norm { layernorm, rmsnorm };
enum class NormPlace { pre, post };
enum class AttentionKind { softmax, softmax_pair_bias, linear };

struct EncoderConfig {
  int64_t layers = 0, width = 0, heads = 0, head_dim = 0, ffn_width = 0, vocab = 0;
  Position position = Position::rotary;
  int64_t max_positions = 0;    // rows of the learned table; 0: none
  int64_t position_offset = 0;  // learned: first row that a residue can use
  double rope_base = 10000.0;
  std::vector<float> rope_inv_freq;  // (head_dim / 2) as a checkpoint stores them; empty: from base
  Norm norm = Norm::layernorm;
  NormPlace norm_place = NormPlace::pre;
  bool attn_residual_normed = false;  // pre: attention's branch joins its normalised input
  double norm_eps = 1e-5;
  bool qk_norm = false;  // LayerNorm of all heads' queries, and keys, together; no bias
  Activation activation = Activation::gelu;
  bool swiglu_beta = false;  // SwiGLU's slope is learned
  AttentionKind attention = AttentionKind::softmax;
  int64_t pair_width = 0;     // of a stream of pairs that updates the bias layer by layer; 0: none
  int64_t pair_hidden = 0;    // pair stream: of its outer and triangle products
  double pair_dropout = 0.0;  // of the triangle products, the same for all queries of a key
  bool qkv_bias = true;       // attn_bias is for the output alone where this is false
  int64_t pair_basis = 0;     // pair bias: Gaussians of a distance
  bool attn_bias = true, mlp_bias = true;
  double residual_scale =
      1.0;  // a branch is multiplied by this before it joins the residual stream
  bool token_dropout = false;
  double mask_ratio_train = 0.12;
  bool embed_norm = false, final_norm = true, final_norm_bias = true;
  double embed_dropout = 0.0;  // of what the first block gets
  double hidden_dropout = 0.0, attention_dropout = 0.0;
  bool lm_head = false, tie_lm_head = true, contact_head = false;
  bool lm_bias = true;         // of the masked-LM decoder
  double lm_norm_eps = 0.0;    // of the masked-LM head's norm; 0: norm_eps
  int64_t features = 0;        // linear attention: random features a head
  double linear_eps = 1e-6;    // linear attention: least normaliser
  bool pool_specials = false;  // the mean over a sequence counts <cls> and <eos>
  int32_t pad_token = 1, mask_token = 32, cls_token = 0, eos_token = 2;

  // Throws std::invalid_argument naming the field, the value and what is allowed.
  void validate() const;
};

struct HeadConfig {
  enum class Input { mean, cls, residue };
  // tanh: dropout, dense, tanh, dropout (ESM). skip: twice x + gelu(dropout(dense(x))) (MoLFormer).
  enum class Form { tanh, skip };
  Input pool = Input::mean;
  Form form = Form::tanh;
  int64_t hidden = 0;  // width of the hidden layers, with skip the encoder's; 0: none
  int64_t outputs = 1;
  double dropout = 0.0;
  bool log_sigma = false;  // a learned log standard deviation for each output (censored likelihood)
};

}  // namespace moltide
