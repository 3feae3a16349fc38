// gate: y = scale * x * f(g), f the logistic function or nothing
// Shapes    x g y dx dg dy (N, C), any row stride; forward: stride 0 of g repeats its one row
// Types     x g dy f32; y dx dg f32 or bf16; computed in f32, rounded once
// Writes    fwd y =;  bwd dx =, dg =
// Aliasing  f32: y may be x or g; dx and dg may be dy, x or g (dx not where dg is)
// Repeat    bit-identical for a row whatever N is
// Error     tests/tolerances.py
#pragma once
#include "core/tensor.h"
#include "gate/gate_params.h"

namespace moltide {

void gate_fwd(Gate kind, const Tensor& x, const Tensor& g, float scale, const Tensor& y);
void gate_bwd(Gate kind, const Tensor& dy, const Tensor& x, const Tensor& g, float scale,
              const Tensor& dx, const Tensor& dg);

}  // namespace moltide
