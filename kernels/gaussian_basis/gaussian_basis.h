// gaussian_basis: y[p,k] = exp(-z^2 / 2) / (sqrt(2 pi) s[k]), z = (a[p] - means[k]) / s[k], of an
// edge's distance seen through its type, a = mul[e] * distance + bias[e] (Uni-Mol: Zhou et al.,
// ICLR 2023; Shuaibi et al. 2021, arXiv:2106.09575)
// Shapes    distances a (P) f32, edges (P) int32, mul bias dmul dbias (E) f32; means stds dmeans
//           dstds (K) f32, s = |stds| + 1e-5; y dy (P, K), any row stride
// Types     y dy f32 or bf16, all else f32; pi is 3.14159, as published models have it
// Writes    fwd y =;  bwd dmul +=, dbias +=, dmeans +=, dstds +=
// Null      dmul, dbias, dmeans, dstds: frozen
// Needs     0 <= edges[p] < E, else refused with p
// Workspace gaussian_basis_bwd_workspace(P, K, E) bytes, 8-byte aligned
// Repeat    a row of y has the same bits whatever P and the threads; gradients sum over P in one
//           order (blocks of 64 rows; for an edge type in double)
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

struct GaussianBasis {
  const float* mul;    // (E)
  const float* bias;   // (E)
  const float* means;  // (K)
  const float* stds;   // (K)
  int64_t edge_types;
  int64_t basis;
};

struct GaussianBasisGradients {
  float *mul, *bias, *means, *stds;
};

void gaussian_basis_fwd(const GaussianBasis& params, const float* distances, const int32_t* edges,
                        const Tensor& y);

int64_t gaussian_basis_bwd_workspace(int64_t pairs, int64_t basis, int64_t edge_types);

void gaussian_basis_bwd(const GaussianBasis& params, const float* distances, const int32_t* edges,
                        const Tensor& dy, const GaussianBasisGradients& gradients, void* workspace);

}  // namespace moltide
