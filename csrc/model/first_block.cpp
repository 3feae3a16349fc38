#include "model/first_block.h"

#include <algorithm>

#include "matmul_i8/matmul_i8.h"
#include "model/int8.h"
#include "model/norms.h"
#include "residual/residual.h"

namespace moltide {
namespace {

// Tokens for each kind from which on it pays; with fewer than 2 their rows would not fit.
constexpr int64_t kLeastShared = 4;

// Numbers the kinds of tokens; 0: not to be used.
int64_t number_kinds(const PassContext& pass, const PassActivations& p) {
  const TokenKinds& kinds = p.kinds;
  const std::vector<int32_t>& tokens = pass.batch.tokens;
  if (!kinds.of) return 0;
  for (Projection site : {Projection::q, Projection::k, Projection::v})
    if (has_adapter(pass, {0, site})) return 0;
  std::fill_n(kinds.number, pass.config.vocab, -1);
  int32_t count = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    if (p.token_scale && p.token_scale[t] != p.token_scale[0]) return 0;
    int32_t& number = kinds.number[tokens[t]];
    if (number < 0) {
      number = count;
      kinds.place[count++] = static_cast<int32_t>(t);
    }
    kinds.of[t] = number;
  }
  return kLeastShared * count <= pass.batch.count() ? count : 0;
}

}  // namespace

bool project_by_token(const PassContext& pass, const PassActivations& p) {
  const int64_t n = number_kinds(pass, p);
  if (n == 0) return false;
  const LayerActivations& a = p.layers[0];
  LayerWeights& w = pass.weights.layers[0];
  const NormWeights* norm = block_norms(pass.config, pass.weights, 0).attention.weights;
  for (int64_t kind = 0; kind < n; ++kind) {
    const int64_t t = p.kinds.place[kind];
    const Tensor x = p.x[0].slice_rows(t, t + 1);
    if (pass.int8)
      norm_quantize(norm, x, a.h8.slice_rows(kind, kind + 1));
    else if (norm)
      norm_forward(*norm, x, a.h1.slice_rows(kind, kind + 1));
    else
      copy_cast(x, a.h1.slice_rows(kind, kind + 1));
  }
  // Attention's output lies where h1 does: behind the kinds' rows nobody else writes yet.
  const Tensor y = make_tensor(a.h1.at(n), n, pass.config.heads * pass.config.head_dim, pass.act);
  const auto project = [&](Linear& linear, Projection site, const Tensor& to) {
    if (pass.int8)
      matmul_i8(a.h8.slice_rows(0, n), linear.int8.get(*linear.weight), linear.bias_value(), y);
    else
      linear_forward(pass, linear, {0, site}, a.h1.slice_rows(0, n), y, Epilogue::store, nullptr,
                     Tensor{}, p.ws);
    gather_rows(y, p.kinds.of, to);
  };
  project(w.q, Projection::q, a.q_raw);
  project(w.k, Projection::k, a.k_raw);
  project(w.v, Projection::v, a.v);
  return true;
}

}  // namespace moltide
