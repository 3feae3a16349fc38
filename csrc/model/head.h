// Task head: pooled (or each) residue vector -> [dropout, dense, tanh] -> dropout -> outputs, or
// the one of skip_head.h. Float32.
#pragma once
#include "core/arena.h"
#include "model/linear.h"
#include "pool/pool.h"

namespace moltide {

struct Head {
  // Weights normal with standard deviation 0.02, biases zero (as BERT and ESM initialise them).
  Head(const HeadConfig& config, int64_t width, uint64_t seed);

  HeadConfig config;
  ParamTable table;
  Linear dense, dense2, out;   // dense2: skip alone
  Param* log_sigma = nullptr;  // (outputs)
};

struct HeadActivations {
  Tensor input;   // (N, C)  pooled, after dropout; N = sequences, or tokens for a residue head
  Tensor u, h;    // (N, hidden) before and after the activation
  Tensor u2;      // (N, hidden) skip: before the second layer's
  Tensor hidden;  // (N, hidden or C) what `out` reads, after dropout
  Tensor pred;    // (N, outputs)
  Tensor dpred, dhidden, dinput;
  Tensor du;  // (N, hidden) skip
};

HeadActivations plan_head(const HeadConfig& config, int64_t width, int64_t tokens, int64_t batch,
                          bool train, Cursor& cursor);
// y (T, C) f32 -> a.pred
void head_forward(const PassContext& pass, Head& head, const Tensor& y, const HeadActivations& a);
// a.dpred -> dy (T, C) =; an empty dy is not computed
void head_backward(const PassContext& pass, Head& head, const HeadActivations& a, const Tensor& dy);

// Positions at each end of a sequence that are no residue: <cls>, <eos>.
struct Specials {
  int first, last;
};
Specials specials(const EncoderConfig& config);
// Those that the mean over a sequence leaves out.
Specials unpooled(const EncoderConfig& config);

}  // namespace moltide
