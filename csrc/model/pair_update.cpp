// The update of a stream of pairs behind a layer, one sequence after the other:
//   z += outer(norm(x)),  z += triangle(norm(z)),  z += mlp(norm(z))
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "core/philox.h"
#include "dropout/dropout.h"
#include "gate/gate.h"
#include "mlp_act/mlp_act.h"
#include "model/norms.h"
#include "model/pair_linear.h"
#include "model/pair_stream.h"
#include "pair_planes/pair_planes.h"
#include "triangle_product/triangle_product.h"

namespace moltide {
namespace {

// One sequence of L tokens, its pairs (Q = L * L) and how large its products are.
struct Update {
  const PassContext& pass;
  const PairStream& s;
  PairStreamLayer& w;
  int64_t layer, token, length, pair, pairs;
  uint64_t seed;
  float dropout, shared_dropout;  // 0 outside training
  float norm;                     // of the outer product
  float root;                     // 1 / sqrt(L)
  int64_t starts[2];

  Update(const PassContext& p, const PairStream& stream, int64_t l, int64_t b)
      : pass(p), s(stream), w(p.weights.pair_layers[l]), layer(l) {
    token = p.batch.cu_seqlens[b];
    length = p.batch.cu_seqlens[b + 1] - token;
    pair = p.batch.pair_starts[b];
    pairs = p.batch.pair_starts[b + 1] - pair;
    // Rows are counted from the sequence's first pair: each has draws of its own.
    seed = p.seed ^ (0x9E3779B97F4A7C15ull * static_cast<uint64_t>(b + 1));
    dropout = p.train ? static_cast<float>(p.config.hidden_dropout) : 0.0f;
    shared_dropout = p.train ? static_cast<float>(p.config.pair_dropout) : 0.0f;
    root = 1.0f / std::sqrt(static_cast<float>(length));
    norm = 1.0f / (1e-3f + root * root);
    starts[0] = 0;
    starts[1] = pairs;
  }

  int64_t hidden() const { return pass.config.pair_hidden; }
  uint64_t stream(RandomSite site) const { return pass.stream(layer, site); }
  Tensor of_pairs(const Tensor& x) const { return x.slice_rows(0, pairs); }
  Tensor of_tokens(const Tensor& x) const { return x.slice_rows(0, length); }
  PairPlaces places() const { return {starts, 1}; }
  // Rows of the pairs of key j.
  Tensor of_key(const Tensor& x, int64_t j) const {
    return x.slice_rows(j * length, (j + 1) * length);
  }
  void drop(const Tensor& x, RandomSite site) const {
    if (dropout > 0) moltide::dropout(x, x, dropout, seed, stream(site));
  }
};

// ---- the outer product -------------------------------------------------------------------------
// z(i,j) += norm * (sum over c, d of W(o, c, d) a(i,c) b(j,d) / L + bias): token j's map from a to
// the pairs, W b(j), is computed once and serves all i.

// outer_out as (Dp * h, h): what maps b to the maps.
const PackedMatrix& view_of(const Update& u, bool transpose) {
  u.w.outer_rows.value = u.w.outer_out.weight->value;
  u.w.outer_rows.version = u.w.outer_out.weight->version;
  Packed& packed = transpose ? u.w.outer_view_back : u.w.outer_view;
  return packed.get(u.w.outer_rows, transpose, 1.0f, DType::f32);
}

PackedMatrix pack_map(const Update& u, const Tensor& maps, int64_t row, bool transpose) {
  const int64_t wide = u.s.width, h = u.hidden();
  const int64_t n = transpose ? h : wide, k = transpose ? wide : h;
  void* to = thread_scratch(Scratch::weight, static_cast<size_t>(packed_bytes(n, k, DType::f32)));
  pack_matrix(static_cast<const float*>(maps.at(row)), h, transpose, n, k, u.norm * u.root * u.root,
              DType::f32, to);
  return {to, n, k, DType::f32};
}

// Both factors of the outer product, and b by itself.
void outer_factors(const Update& u, const Tensor& x) {
  const PairStream& s = u.s;
  const Tensor tokens = u.of_tokens(s.tokens), ab = u.of_tokens(s.ab);
  norm_forward(u.w.outer_norm, x, tokens, s.mean2, s.rstd2);
  matmul(tokens, forward_of(u.pass, u.w.outer_in), u.w.outer_in.bias_value(), ab);
  copy_cast(ab.slice_cols(u.hidden(), u.hidden()), u.of_tokens(s.b));
}

// f(first token, maps of so many)
template <class F>
void for_maps(const Update& u, F f) {
  const int64_t room = u.s.maps.rows;
  for (int64_t first = 0; first < u.length; first += room) {
    const int64_t n = std::min(room, u.length - first);
    const Tensor maps = u.s.maps.slice_rows(0, n);
    matmul(u.s.b.slice_rows(first, first + n), view_of(u, false), nullptr, maps);
    f(first, maps);
  }
}

void outer_forward(const Update& u, const Tensor& x, const Tensor& z) {
  const PairStream& s = u.s;
  outer_factors(u, x);
  std::memset(s.outer_bias, 0, static_cast<size_t>(s.width) * sizeof(float));
  residual_add(f32_tensor(s.outer_bias, 1, s.width),
               f32_tensor(u.w.outer_out.bias->value, 1, s.width), u.norm);
  const Tensor a = u.of_tokens(s.ab).slice_cols(0, u.hidden());
  const Tensor out = u.dropout > 0 ? u.of_pairs(s.wide) : z;
  const Epilogue epilogue = u.dropout > 0 ? Epilogue::store : Epilogue::accumulate;
  for_maps(u, [&](int64_t first, const Tensor& maps) {
    parallel_for(maps.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        matmul(a, pack_map(u, maps, i, false), s.outer_bias, u.of_key(out, first + i), epilogue);
    });
  });
  if (u.dropout == 0) return;
  u.drop(out, RandomSite::pair_outer_dropout);
  residual_add(z, out, 1.0f);
}

// dz is the gradient of what the product was added to, hence of the product.
void outer_backward(const Update& u, const Tensor& x, const Tensor& dz, const Tensor& dx) {
  const PairStream& s = u.s;
  const int64_t h = u.hidden(), wide = s.width;
  Linear& out = u.w.outer_out;
  outer_factors(u, x);
  Tensor dy = dz;
  if (u.dropout > 0) {
    dy = u.of_pairs(s.dwide);
    copy_cast(dz, dy);
    u.drop(dy, RandomSite::pair_outer_dropout);
  }
  const Tensor a = u.of_tokens(s.ab).slice_cols(0, h), dab = u.of_tokens(s.dab);
  const Tensor da = dab.slice_cols(0, h), db = dab.slice_cols(h, h);
  std::memset(dab.data, 0, static_cast<size_t>(dab.rows * dab.cols) * sizeof(float));
  std::memset(s.outer_bias, 0, static_cast<size_t>(wide) * sizeof(float));
  for_maps(u, [&](int64_t first, const Tensor& maps) {
    const Tensor dmaps = s.dmaps.slice_rows(0, maps.rows);
    std::memset(dmaps.data, 0, static_cast<size_t>(dmaps.rows * dmaps.cols) * sizeof(float));
    for (int64_t i = 0; i < maps.rows; ++i) {
      const Tensor d = u.of_key(dy, first + i);
      matmul(d, pack_map(u, maps, i, true), nullptr, da, Epilogue::accumulate);
      matmul_dw(d, a, f32_tensor(static_cast<const float*>(dmaps.at(i)), wide, h), s.outer_bias,
                u.norm * u.root * u.root);
    }
    matmul(dmaps, view_of(u, true), nullptr, db.slice_rows(first, first + maps.rows));
    if (out.weight->grad)
      matmul_dw(dmaps, s.b.slice_rows(first, first + maps.rows),
                f32_tensor(out.weight->grad, wide * h, h), nullptr);
  });
  if (out.bias->grad)
    residual_add(f32_tensor(out.bias->grad, 1, wide), f32_tensor(s.outer_bias, 1, wide), u.norm);
  const Tensor dab_act = as_act(dab, s.dab_act), dtokens = u.of_tokens(s.dtokens);
  add_gradients(u.w.outer_in, dab_act, u.of_tokens(s.tokens));
  matmul(dab_act, backward_of(u.pass, u.w.outer_in), nullptr, dtokens);
  norm_backward(u.w.outer_norm, dtokens, x, s.mean2, s.rstd2, dx, true);
}

// ---- the triangle product ----------------------------------------------------------------------

// (L, Dp): what each key's pairs are multiplied with; all queries share it.
void shared_mask(const Update& u) {
  const Tensor mask = u.of_tokens(u.s.mask);
  std::fill_n(mask.f32(), mask.rows * mask.cols, 1.0f);
  moltide::dropout(mask, mask, u.shared_dropout, u.seed,
                   u.stream(RandomSite::pair_triangle_dropout));
}

// to = from times the mask of its key.
void mask_pairs(const Update& u, const Tensor& from, const Tensor& to) {
  for (int64_t j = 0; j < u.length; ++j) {
    Tensor row = u.s.mask.slice_rows(j, j + 1);
    row.rows = u.length;
    row.ld = 0;
    gate_fwd(Gate::linear, u.of_key(from, j), row, 1.0f, u.of_key(to, j));
  }
}

// z += triangle(norm(z)); what the backward reads is left in s. `gated` is scratch, or s.wide,
// whose values are then lost.
void triangle_forward(const Update& u, const Tensor& z, const Tensor& gated) {
  const PairStream& s = u.s;
  const int64_t h = u.hidden();
  const Tensor in = u.of_pairs(s.h), p = u.of_pairs(s.p), g = u.of_pairs(s.g);
  norm_forward(u.w.triangle_norm, z, in);
  matmul(in, forward_of(u.pass, u.w.triangle_ab), u.w.triangle_ab.bias_value(), p);
  matmul(in, forward_of(u.pass, u.w.triangle_ab_gate), u.w.triangle_ab_gate.bias_value(), g);
  const Tensor product = u.of_pairs(s.product), rows = u.of_pairs(s.rows);
  gate_fwd(Gate::sigmoid, p, g, u.root, product);
  pairs_to_planes(u.places(), product, 0, s.planes);
  triangle_product_fwd(s.planes, s.planes + h * u.pairs, h, u.length, s.out_planes);
  planes_to_pairs(u.places(), s.out_planes, 0, rows);
  const Tensor normed = u.of_pairs(s.rows_act), wide = u.of_pairs(s.wide);
  norm_forward(u.w.triangle_out_norm, rows, normed);
  matmul(normed, forward_of(u.pass, u.w.triangle_out), u.w.triangle_out.bias_value(), wide);
  const Tensor gate = u.of_pairs(s.gate);
  matmul(in, forward_of(u.pass, u.w.triangle_gate), u.w.triangle_gate.bias_value(), gate);
  gate_fwd(Gate::linear, wide, gate, 1.0f, gated);
  if (u.shared_dropout > 0) {
    shared_mask(u);
    mask_pairs(u, gated, gated);
  }
  residual_add(z, gated, 1.0f);
}

// z: before the product was added. s is as triangle_forward left it, but for h.
void triangle_backward(const Update& u, const Tensor& z, const Tensor& dz) {
  const PairStream& s = u.s;
  const int64_t h = u.hidden();
  const Tensor dgated = u.of_pairs(s.dwide);
  if (u.shared_dropout > 0) {
    shared_mask(u);
    mask_pairs(u, dz, dgated);
  } else {
    copy_cast(dz, dgated);
  }
  const Tensor dout = u.of_pairs(s.dact), dgate = u.of_pairs(s.u);
  gate_bwd(Gate::linear, dgated, u.of_pairs(s.wide), u.of_pairs(s.gate), 1.0f, dout, dgate);

  const Tensor rows = u.of_pairs(s.rows), drows = u.of_pairs(s.drows);
  const Tensor normed = u.of_pairs(s.rows_act);
  norm_forward(u.w.triangle_out_norm, rows, normed, s.mean, s.rstd);
  add_gradients(u.w.triangle_out, dout, normed);
  matmul(dout, backward_of(u.pass, u.w.triangle_out), nullptr, drows);
  norm_backward(u.w.triangle_out_norm, drows, rows, s.mean, s.rstd, drows, false);
  pairs_to_planes(u.places(), drows, 0, s.out_planes);
  triangle_product_bwd(s.out_planes, s.planes, s.planes + h * u.pairs, h, u.length, s.planes,
                       s.planes + h * u.pairs);
  const Tensor product = u.of_pairs(s.product);
  planes_to_pairs(u.places(), s.planes, 0, product);
  const Tensor dp = u.of_pairs(s.dp), dg = u.of_pairs(s.dg);
  gate_bwd(Gate::sigmoid, product, u.of_pairs(s.p), u.of_pairs(s.g), u.root, dp, dg);

  const Tensor in = u.of_pairs(s.h), dh = u.of_pairs(s.dh);
  norm_forward(u.w.triangle_norm, z, in, s.mean, s.rstd);
  add_gradients(u.w.triangle_ab, dp, in);
  add_gradients(u.w.triangle_ab_gate, dg, in);
  add_gradients(u.w.triangle_gate, dgate, in);
  matmul(dp, backward_of(u.pass, u.w.triangle_ab), nullptr, dh);
  matmul(dg, backward_of(u.pass, u.w.triangle_ab_gate), nullptr, dh, Epilogue::accumulate);
  matmul(dgate, backward_of(u.pass, u.w.triangle_gate), nullptr, dh, Epilogue::accumulate);
  norm_backward(u.w.triangle_norm, dh, z, s.mean, s.rstd, dz, true);
}

// ---- the MLP -----------------------------------------------------------------------------------

void mlp_forward(const Update& u, const Tensor& z) {
  const PairStream& s = u.s;
  const Tensor in = u.of_pairs(s.h), act = u.of_pairs(s.act);
  norm_forward(u.w.mlp_norm, z, in);
  matmul(in, forward_of(u.pass, u.w.up), u.w.up.bias_value(), act, Epilogue::gelu);
  const PackedMatrix& down = forward_of(u.pass, u.w.down);
  if (u.dropout == 0) return matmul(act, down, u.w.down.bias_value(), z, Epilogue::accumulate);
  const Tensor wide = u.of_pairs(s.wide);
  matmul(act, down, u.w.down.bias_value(), wide);
  u.drop(wide, RandomSite::pair_mlp_dropout);
  residual_add(z, wide, 1.0f);
}

void mlp_backward(const Update& u, const Tensor& z, const Tensor& dz) {
  const PairStream& s = u.s;
  const Tensor in = u.of_pairs(s.h), act = u.of_pairs(s.act), pre = u.of_pairs(s.u);
  norm_forward(u.w.mlp_norm, z, in, s.mean, s.rstd);
  matmul(in, forward_of(u.pass, u.w.up), u.w.up.bias_value(), act, Epilogue::gelu, &pre);
  const Tensor dropped = u.of_pairs(s.dwide), dy = u.of_pairs(s.dact);
  copy_cast(dz, dropped);
  u.drop(dropped, RandomSite::pair_mlp_dropout);
  copy_cast(dropped, dy);
  add_gradients(u.w.down, dy, act);
  // act is read for the last time: its gradient takes its place.
  matmul(dy, backward_of(u.pass, u.w.down), nullptr, act);
  activation_bwd(Activation::gelu, act, pre, act);
  add_gradients(u.w.up, act, in);
  const Tensor dh = u.of_pairs(s.dh);
  matmul(act, backward_of(u.pass, u.w.up), nullptr, dh);
  norm_backward(u.w.mlp_norm, dh, z, s.mean, s.rstd, dz, true);
}

}  // namespace

void pair_stream_update(const PassContext& pass, int64_t layer, const PairStream& s,
                        const Tensor& x) {
  for (int64_t b = 0; b < pass.batch.batch(); ++b) {
    const Update u(pass, s, layer, b);
    if (u.length == 0) continue;
    const Tensor z = s.at(layer + 1, u.pair, u.pair + u.pairs);
    if (s.step > 0) copy_cast(s.at(layer, u.pair, u.pair + u.pairs), z);
    outer_forward(u, x.slice_rows(u.token, u.token + u.length), z);
    triangle_forward(u, z, u.of_pairs(s.wide));
    mlp_forward(u, z);
  }
}

void pair_stream_update_backward(const PassContext& pass, int64_t layer, const PairStream& s,
                                 const Tensor& x, const Tensor& dx) {
  for (int64_t b = 0; b < pass.batch.batch(); ++b) {
    const Update u(pass, s, layer, b);
    if (u.length == 0) continue;
    const Tensor tokens = x.slice_rows(u.token, u.token + u.length);
    const Tensor z1 = u.of_pairs(s.z1), z2 = u.of_pairs(s.z2);
    const Tensor dz = s.gradient(u.pair, u.pair + u.pairs);
    copy_cast(s.at(layer, u.pair, u.pair + u.pairs), z1);
    outer_forward(u, tokens, z1);
    copy_cast(z1, z2);
    triangle_forward(u, z2, u.of_pairs(s.dwide));
    mlp_backward(u, z2, dz);
    triangle_backward(u, z1, dz);
    outer_backward(u, tokens, dz, dx.slice_rows(u.token, u.token + u.length));
  }
}

}  // namespace moltide
