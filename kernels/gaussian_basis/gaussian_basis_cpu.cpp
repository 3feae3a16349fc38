#include "device/gelu.h"
#include "device/rows.h"
#include "gaussian_basis/gaussian_basis_params.h"

namespace moltide::MOLTIDE_ISA {
namespace {

// W columns of the basis.
struct Columns {
  vf mean, inverse, height;  // 1 / s; 1 / (sqrt(2 pi) s)
  vi sign;                   // the sign bit of stds

  template <class N>
  Columns(const GaussianRows& p, int64_t k, N n) {
    mean = load(p.means + k, n);
    const vf stds = load(p.stds + k, n);
    sign = (vi)stds & (vi)(vu{} + 0x80000000u);
    inverse = set1(1.0f) / (vabs(stds) + set1(1e-5f));
    height = inverse * set1(0.3989424488876f);  // 1 / sqrt(2 * 3.14159)
  }
};

struct Pairs {
  int64_t first, count;
  float a[kGaussianBlock];

  Pairs(const GaussianRows& p, int64_t block) : first(block * kGaussianBlock) {
    count = p.pairs - first < kGaussianBlock ? p.pairs - first : kGaussianBlock;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t e = p.edges[first + i];
      a[i] = p.mul[e] * p.distances[first + i] + p.bias[e];
    }
  }
};

template <class Y>
void fwd_block(const GaussianRows& p, int64_t block) {
  const Pairs pairs(p, block);
  Y* y = static_cast<Y*>(p.y) + pairs.first * p.y_ld;
  for_columns(p.basis, [&](int64_t k, auto n) {
    const Columns c(p, k, n);
    for (int64_t i = 0; i < pairs.count; ++i) {
      const vf z = (set1(pairs.a[i]) - c.mean) * c.inverse;
      store(y + i * p.y_ld + k, vexp_nonpositive(set1(-0.5f) * z * z) * c.height, n);
    }
  });
}

// With g = dy * y: da = -sum of g z / s, dmean = sum of g z / s, ds = sum of g (z^2 - 1) / s.
template <class DY>
void bwd_block(const GaussianRows& p, int64_t block) {
  const Pairs pairs(p, block);
  const DY* dy = static_cast<const DY*>(p.y) + pairs.first * p.y_ld;
  float* sums = p.sums + block * 2 * p.basis;
  vf da[kGaussianBlock] = {};
  for_columns(p.basis, [&](int64_t k, auto n) {
    const Columns c(p, k, n);
    vf dmean{}, ds{};
    for (int64_t i = 0; i < pairs.count; ++i) {
      const vf z = (set1(pairs.a[i]) - c.mean) * c.inverse;
      const vf y = vexp_nonpositive(set1(-0.5f) * z * z) * c.height;
      const vf g = load(dy + i * p.y_ld + k, n) * y * c.inverse;
      dmean = fma(g, z, dmean);
      ds = fma(g, z * z - set1(1.0f), ds);
      da[i] -= g * z;
    }
    store(sums + k, dmean, n);
    store(sums + p.basis + k, (vf)((vi)ds ^ c.sign), n);
  });
  for (int64_t i = 0; i < pairs.count; ++i) p.da[pairs.first + i] = reduce_add(da[i]);
}

}  // namespace

void gaussian_basis_fwd_blocks(const GaussianRows& p, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; ++block)
    p.y_type == DType::f32 ? fwd_block<float>(p, block) : fwd_block<bf16>(p, block);
}

// da, and the block's sums over its pairs.
void gaussian_basis_bwd_blocks(const GaussianRows& p, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; ++block)
    p.y_type == DType::f32 ? bwd_block<float>(p, block) : bwd_block<bf16>(p, block);
}

}  // namespace moltide::MOLTIDE_ISA
