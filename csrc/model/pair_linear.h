// Projections of pairs, which have no adapters: packed where they are used, as lm_head's are.
#pragma once
#include "model/linear.h"
#include "residual/residual.h"

namespace moltide {

inline const PackedMatrix& forward_of(const PassContext& pass, Linear& l) {
  return l.forward.get(*l.weight, false, 1.0f, pass.act);
}
inline const PackedMatrix& backward_of(const PassContext& pass, Linear& l) {
  return l.backward.get(*l.weight, true, 1.0f, pass.act);
}

inline void add_gradients(const Linear& l, const Tensor& dy, const Tensor& x) {
  if (!l.weight->grad) return;
  matmul_dw(dy, x, f32_tensor(l.weight->grad, l.out(), l.in()), l.bias ? l.bias->grad : nullptr);
}

// x in the type of `room`: itself, or a copy there.
inline Tensor as_act(const Tensor& x, const Tensor& room) {
  if (room.dtype == DType::f32) return x;
  const Tensor to = make_tensor(room.data, x.rows, x.cols, room.dtype);
  copy_cast(x, to);
  return to;
}

}  // namespace moltide
