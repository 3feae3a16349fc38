#include "device/gelu_bf16.h"
#include "device/rows.h"
#include "mlp_act/mlp_act_params.h"

namespace moltide::MOLTIDE_ISA {

// Relative error below 4e-7. Near zero an odd polynomial (minimax, 1e-9), beyond it
// 1 - 2 / (e^2|x| + 1), which loses nothing there.
MOLTIDE_INLINE vf vtanh(vf x) {
  const vf square = x * x;
  vf p = set1(-0.006274237904061967f);
  p = fma(p, square, set1(0.021071677936814602f));
  p = fma(p, square, set1(-0.05385230964252579f));
  p = fma(p, square, set1(0.1333258613592224f));
  p = fma(p, square, set1(-0.3333331755959167f));
  const vf near = fma(p * square, x, x);
  const vf a = vabs(x);
  const vf far = set1(1.0f) - set1(2.0f) / (vexp(a + a) + set1(1.0f));
  return select(a < set1(0.55f), near, select(x < vf{}, -far, far));
}

MOLTIDE_INLINE vf vsigmoid(vf x) {
  return set1(1.0f) / (set1(1.0f) + vexp(-x));
}

// y of u, and dy/du, for a result of type T; swiglu, of two inputs, is apart.
template <class T>
struct Gelu {
  MOLTIDE_INLINE vf value(vf u) { return vgelu(u, static_cast<const T*>(nullptr)); }
  MOLTIDE_INLINE vf slope(vf u) { return vgelu_slope(u, static_cast<const T*>(nullptr)); }
};
template <class T>
struct Relu {
  // NaN compares false and so comes through.
  MOLTIDE_INLINE vf value(vf u) { return select(u < vf{}, vf{}, u); }
  MOLTIDE_INLINE vf slope(vf u) { return select(u > vf{}, set1(1.0f), vf{}); }
};
template <class T>
struct Tanh {
  MOLTIDE_INLINE vf value(vf u) { return vtanh(u); }
  MOLTIDE_INLINE vf slope(vf u) {
    const vf y = vtanh(u);
    return fma(-y, y, set1(1.0f));
  }
};

template <class T, class A>
static void fwd(const ActivationRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* u = static_cast<const T*>(p.u) + t * p.u_ld;
    T* y = static_cast<T*>(p.out) + t * p.out_ld;
    for_columns(p.cols, [&](int64_t i, auto n) { store(y + i, A::value(load(u + i, n)), n); });
  }
}

template <class T, class A>
static void bwd(const ActivationRows& p, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* u = static_cast<const T*>(p.u) + t * p.u_ld;
    const T* dy = static_cast<const T*>(p.dy) + t * p.dy_ld;
    T* du = static_cast<T*>(p.out) + t * p.out_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      store(du + i, load(dy + i, n) * A::slope(load(u + i, n)), n);
    });
  }
}

template <class T>
static void swiglu_fwd(const ActivationRows& p, int64_t begin, int64_t end) {
  const vf beta = set1(p.beta);
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = static_cast<const T*>(p.u) + t * p.u_ld;
    const T* up = gate + p.cols;
    T* y = static_cast<T*>(p.out) + t * p.out_ld;
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf g = load(gate + i, n);
      store(y + i, g * vsigmoid(beta * g) * load(up + i, n), n);
    });
  }
}

// With s the sigmoid of beta g: d (g s) / dg = s + beta g s (1 - s).
template <class T>
static void swiglu_bwd(const ActivationRows& p, int64_t begin, int64_t end) {
  const vf beta = set1(p.beta);
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = static_cast<const T*>(p.u) + t * p.u_ld;
    const T* up = gate + p.cols;
    const T* dy = static_cast<const T*>(p.dy) + t * p.dy_ld;
    T* dgate = static_cast<T*>(p.out) + t * p.out_ld;
    T* dup = dgate + p.cols;
    for_columns(p.cols, [&](int64_t i, auto n) {
      const vf g = load(gate + i, n);
      const vf d = load(dy + i, n);
      const vf s = vsigmoid(beta * g);
      const vf silu = g * s;
      store(dgate + i, d * load(up + i, n) * fma(beta * silu, set1(1.0f) - s, s), n);
      store(dup + i, d * silu, n);
    });
  }
}

// d (g s) / dbeta = g^2 s (1 - s).
template <class T>
static void bwd_beta(const ActivationRows& p, int64_t begin, int64_t end) {
  const vf beta = set1(p.beta);
  for (int64_t t = begin; t < end; ++t) {
    const T* gate = static_cast<const T*>(p.u) + t * p.u_ld;
    const T* up = gate + p.cols;
    const T* dy = static_cast<const T*>(p.dy) + t * p.dy_ld;
    p.rows[t] = sum_columns(p.cols, [&](int64_t i, auto n) {
      const vf g = load(gate + i, n);
      const vf s = vsigmoid(beta * g);
      return load(dy + i, n) * load(up + i, n) * (g * g) * (s * (set1(1.0f) - s));
    });
  }
}

void swiglu_bwd_beta_rows(const ActivationRows& p, int64_t begin, int64_t end) {
  if (p.type == DType::f32)
    bwd_beta<float>(p, begin, end);
  else
    bwd_beta<bf16>(p, begin, end);
}

template <class T>
static void any_fwd(const ActivationRows& p, int64_t begin, int64_t end) {
  switch (p.activation) {
    case Activation::gelu:
      return fwd<T, Gelu<T>>(p, begin, end);
    case Activation::swiglu:
      return swiglu_fwd<T>(p, begin, end);
    case Activation::relu:
      return fwd<T, Relu<T>>(p, begin, end);
    case Activation::tanh:
      return fwd<T, Tanh<T>>(p, begin, end);
  }
}

template <class T>
static void any_bwd(const ActivationRows& p, int64_t begin, int64_t end) {
  switch (p.activation) {
    case Activation::gelu:
      return bwd<T, Gelu<T>>(p, begin, end);
    case Activation::swiglu:
      return swiglu_bwd<T>(p, begin, end);
    case Activation::relu:
      return bwd<T, Relu<T>>(p, begin, end);
    case Activation::tanh:
      return bwd<T, Tanh<T>>(p, begin, end);
  }
}

void activation_fwd_rows(const ActivationRows& p, int64_t begin, int64_t end) {
  if (p.type == DType::f32)
    any_fwd<float>(p, begin, end);
  else
    any_fwd<bf16>(p, begin, end);
}

void activation_bwd_rows(const ActivationRows& p, int64_t begin, int64_t end) {
  if (p.type == DType::f32)
    any_bwd<float>(p, begin, end);
  else
    any_bwd<bf16>(p, begin, end);
}

}  // namespace moltide::MOLTIDE_ISA
