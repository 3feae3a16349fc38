// Memory of a stream of pairs.
#include <algorithm>

#include "gaussian_basis/gaussian_basis.h"
#include "model/pair_stream.h"

namespace moltide {

PairStream plan_pair_stream(const EncoderConfig& c, const PassShape& shape, Cursor& at) {
  PairStream s;
  if (c.pair_width == 0) return s;
  // Few enough to stay in the caches from one product to the next.
  constexpr int64_t kChunk = 2048, kMaps = 16;
  constexpr int64_t kEdges = 128 * 128;
  const bool backward = shape.train && shape.backward;
  const int64_t wide = c.pair_width, hidden = c.pair_hidden, length = shape.longest;
  const int64_t pairs = length * length;
  const DType act = shape.act, f32 = DType::f32;
  s.width = wide;
  s.chunk = std::min(shape.pairs, std::max(kChunk, length));
  s.step = backward ? shape.pairs * wide : 0;
  s.first = at.floats(backward ? s.step * c.layers : shape.pairs * wide);
  if (backward) s.dz = at.floats(shape.pairs * wide);

  s.mul = at.floats(kEdges);
  s.bias = at.floats(kEdges);
  s.stds = at.floats(c.pair_basis);
  s.types = at.ints(shape.tokens);
  s.distances = at.floats(s.chunk);
  s.edges = at.ints(s.chunk);
  s.features = at.tensor(s.chunk, c.pair_basis, act);
  s.inner = at.tensor(s.chunk, c.pair_basis, act);
  s.chunk_rows = at.tensor(s.chunk, wide, f32);
  s.chunk_act = at.tensor(s.chunk, wide, act);
  s.bias_rows = at.tensor(s.chunk, c.heads, f32);

  s.tokens = at.tensor(length, c.width, act);
  s.ab = at.tensor(length, 2 * hidden, f32);
  s.b = at.tensor(length, hidden, f32);
  s.maps = at.tensor(std::min(kMaps, length), wide * hidden, f32);
  s.outer_bias = at.floats(wide);
  s.h = at.tensor(pairs, wide, act);
  s.wide = at.tensor(pairs, wide, f32);
  s.gate = at.tensor(pairs, wide, f32);
  for (Tensor* x : {&s.p, &s.g, &s.product}) *x = at.tensor(pairs, 2 * hidden, f32);
  s.planes = at.floats(2 * hidden * pairs);
  s.out_planes = at.floats(hidden * pairs);
  s.rows = at.tensor(pairs, hidden, f32);
  s.rows_act = at.tensor(pairs, hidden, act);
  if (shape.train && c.pair_dropout > 0) s.mask = at.tensor(length, wide, f32);
  s.act = at.tensor(pairs, wide, act);
  for (float** x : {&s.mean2, &s.rstd2}) *x = at.floats(length);
  if (!backward) return s;

  s.dmul = at.floats(kEdges);
  s.dbias = at.floats(kEdges);
  s.inner_u = at.tensor(s.chunk, c.pair_basis, act);
  s.dfeatures = at.tensor(s.chunk, c.pair_basis, f32);
  s.basis = at.bytes(gaussian_basis_bwd_workspace(s.chunk, c.pair_basis, kEdges));
  for (float** x : {&s.mean, &s.rstd}) *x = at.floats(pairs);
  for (Tensor* x : {&s.z1, &s.z2, &s.dwide, &s.dh}) *x = at.tensor(pairs, wide, f32);
  s.u = at.tensor(pairs, wide, act);
  s.dact = at.tensor(pairs, wide, act);
  s.drows = at.tensor(pairs, hidden, f32);
  for (Tensor* x : {&s.dp, &s.dg}) *x = at.tensor(pairs, 2 * hidden, act);
  s.dab = at.tensor(length, 2 * hidden, f32);
  s.dab_act = at.tensor(length, 2 * hidden, act);
  s.dtokens = at.tensor(length, c.width, f32);
  s.dmaps = at.tensor(s.maps.rows, wide * hidden, f32);
  return s;
}

}  // namespace moltide
