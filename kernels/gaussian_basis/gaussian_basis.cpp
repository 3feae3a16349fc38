#include "gaussian_basis/gaussian_basis.h"

#include <cstring>

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "gaussian_basis/gaussian_basis_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, gaussian_basis_fwd_blocks, const GaussianRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, gaussian_basis_bwd_blocks, const GaussianRows& p, int64_t begin, int64_t end)

namespace {

int64_t blocks_of(int64_t pairs) {
  return (pairs + kGaussianBlock - 1) / kGaussianBlock;
}

GaussianRows check(const char* op, const GaussianBasis& g, const float* distances,
                   const int32_t* edges, const char* name, const Tensor& y) {
  expect_shape(op, name, y, y.rows, g.basis);
  expect_memory(op, "distances", distances, y.rows);
  expect_memory(op, "edges", edges, y.rows);
  expect_memory(op, "mul", g.mul, g.edge_types);
  expect_memory(op, "bias", g.bias, g.edge_types);
  expect_memory(op, "means", g.means, g.basis);
  expect_memory(op, "stds", g.stds, g.basis);
  for (int64_t i = 0; i < y.rows; ++i)
    MOLTIDE_CHECK(edges[i] >= 0 && edges[i] < g.edge_types, op, ": edge type of pair ", i, " is ",
                  edges[i], ", allowed: 0 to ", g.edge_types - 1);
  return {g.mul, g.bias,  g.means, g.stds,  distances, edges,  y.data,
          y.ld,  y.dtype, y.rows,  g.basis, nullptr,   nullptr};
}

}  // namespace

void gaussian_basis_fwd(const GaussianBasis& params, const float* distances, const int32_t* edges,
                        const Tensor& y) {
  const GaussianRows p = check("gaussian_basis_fwd", params, distances, edges, "y", y);
  parallel_for(blocks_of(p.pairs), row_grain(kGaussianBlock * p.basis),
               [&](int64_t begin, int64_t end) {
                 MOLTIDE_CPU_CALL(gaussian_basis_fwd_blocks, p, begin, end);
               });
}

int64_t gaussian_basis_bwd_workspace(int64_t pairs, int64_t basis, int64_t edge_types) {
  return 2 * edge_types * 8 + (blocks_of(pairs) * 2 * basis + pairs) * 4;
}

void gaussian_basis_bwd(const GaussianBasis& params, const float* distances, const int32_t* edges,
                        const Tensor& dy, const GaussianBasisGradients& gradients,
                        void* workspace) {
  GaussianRows p = check("gaussian_basis_bwd", params, distances, edges, "dy", dy);
  const GaussianBasisGradients& g = gradients;
  if (p.pairs == 0 || !(g.mul || g.bias || g.means || g.stds)) return;
  const int64_t types = params.edge_types, basis = p.basis, blocks = blocks_of(p.pairs);
  double* by_type = static_cast<double*>(workspace);  // (2, E)
  p.sums = reinterpret_cast<float*>(by_type + 2 * types);
  p.da = p.sums + blocks * 2 * basis;
  parallel_for(blocks, row_grain(kGaussianBlock * basis), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(gaussian_basis_bwd_blocks, p, begin, end);
  });
  parallel_for(basis, row_grain(blocks), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      float mean = 0, std = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        mean += p.sums[b * 2 * basis + k];
        std += p.sums[(b * 2 + 1) * basis + k];
      }
      if (g.means) g.means[k] += mean;
      if (g.stds) g.stds[k] += std;
    }
  });
  if (!g.mul && !g.bias) return;
  // Pairs share types: one walk, an addition each.
  std::memset(by_type, 0, static_cast<size_t>(2 * types) * 8);
  for (int64_t i = 0; i < p.pairs; ++i) {
    by_type[edges[i]] += double{p.da[i]} * distances[i];
    by_type[types + edges[i]] += p.da[i];
  }
  for (int64_t e = 0; e < types; ++e) {
    if (g.mul) g.mul[e] += static_cast<float>(by_type[e]);
    if (g.bias) g.bias[e] += static_cast<float>(by_type[types + e]);
  }
}

}  // namespace moltide
