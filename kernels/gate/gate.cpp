#include "gate/gate.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, gate_fwd_rows, const GateRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, gate_bwd_rows, const GateRows& p, int64_t begin, int64_t end)

void gate_fwd(Gate kind, const Tensor& x, const Tensor& g, float scale, const Tensor& y) {
  constexpr const char* op = "gate_fwd";
  expect_f32(op, "x", x, x.rows, x.cols);
  const bool repeated = g.ld == 0 && g.rows > 0;
  expect_f32(op, "g", repeated ? g.slice_rows(0, 1) : g, repeated ? 1 : x.rows, x.cols);
  expect_shape(op, "y", y, x.rows, x.cols);
  const GateRows p{x.f32(), g.f32(), nullptr,    y.data, nullptr,
                   x.ld,    g.ld,    0,          y.ld,   0,
                   x.cols,  y.dtype, DType::f32, scale,  kind == Gate::sigmoid};
  parallel_for(x.rows, row_grain(x.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(gate_fwd_rows, p, begin, end); });
}

void gate_bwd(Gate kind, const Tensor& dy, const Tensor& x, const Tensor& g, float scale,
              const Tensor& dx, const Tensor& dg) {
  constexpr const char* op = "gate_bwd";
  expect_f32(op, "x", x, x.rows, x.cols);
  expect_f32(op, "g", g, x.rows, x.cols);
  expect_f32(op, "dy", dy, x.rows, x.cols);
  expect_shape(op, "dx", dx, x.rows, x.cols);
  expect_shape(op, "dg", dg, x.rows, x.cols);
  MOLTIDE_CHECK(dx.data != dg.data || x.rows == 0, op, ": dx and dg are the same memory");
  const GateRows p{x.f32(), g.f32(),  dy.f32(), dx.data, dg.data,
                   x.ld,    g.ld,     dy.ld,    dx.ld,   dg.ld,
                   x.cols,  dx.dtype, dg.dtype, scale,   kind == Gate::sigmoid};
  parallel_for(x.rows, row_grain(x.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(gate_bwd_rows, p, begin, end); });
}

}  // namespace moltide
