// matmul: y = epilogue(x W + bias), and the weight gradient dw += scale * dy^T x
// Shapes    x (M,K) y (M,N) dy (M,N) dw (N,K), any ld; W maps K values to N, packed; bias db (N)
// Types     x, dy: f32 or bf16. y: f32 or the type of x. bias dw db: f32. Products are summed in
// f32 Writes    store y =, accumulate y +=, gelu y = and pre =;  dw += , db +=  (micro-batches add
// up) Epilogue  store      y = v, v = xW + bias (bias null: 0), rounded once to y's type
//           accumulate y = y + v, added in f32 (the residual stream: y f32, x bf16)
//           gelu       u = v rounded to y's type, y = gelu(u) (erf form); pre = u when given, of
//           y's
//                      type. y has the same bits with and without pre, so the backward may compute
//                      pre again by the same call
// Aliasing  y, pre and x must not overlap; dw and db must not overlap dy and x
// Needs     packed data 64-byte aligned; else refused in matmul.cpp. M, N, K of 0 are legal
// Workspace thread_scratch only; no allocation once the shapes have been seen
// Repeat    a row of y has the same bits whatever M, its place and the thread count; dw and db have
//           the same bits whatever the thread count. Bits differ between instruction sets and, in
//           float32, between processors (matmul_winograd.h)
// Special   NaN and Inf propagate; Inf may become NaN. Denormals are kept in float32, beside small
//           values; the bf16 instructions of avx512_bf16 and amx read and write them as zero
// Error     tests/kernels/test_matmul.py. With Winograd's products that of a value goes by the size
//           of all of W: a column far smaller than the rest is less exact beside its own size
#pragma once
#include "core/tensor.h"

namespace moltide {

// W packed for the kernels: one format per dtype for every instruction set, so set_isa between
// packing and use is fine. Panels of 16 outputs, zero-padded; bf16 holds pairs along k.
struct PackedMatrix {
  const void* data = nullptr;
  int64_t n = 0;
  int64_t k = 0;
  DType dtype = DType::f32;
};

// Bytes pack_matrix writes for a (k -> n) map.
int64_t packed_bytes(int64_t n, int64_t k, DType dtype);

// transpose = false: w is (n,k), a Linear layer's weight, y = x w^T (the forward).
// transpose = true:  w is (k,n), y = x w (with the same weight: dx = dy w).
// Values are multiplied by scale, then rounded once to dtype. ld: row stride of w in floats.
void pack_matrix(const float* w, int64_t ld, bool transpose, int64_t n, int64_t k, float scale,
                 DType dtype, void* out);

enum class Epilogue : uint8_t { store, accumulate, gelu };

void matmul(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& y,
            Epilogue epilogue = Epilogue::store, const Tensor* pre = nullptr);

// dw += scale * dy^T x; db += column sums of dy (not scaled), null: not wanted.
// dy and x have one dtype. Sums run over blocks of kDwBlock tokens, blocks added in order.
void matmul_dw(const Tensor& dy, const Tensor& x, const Tensor& dw, float* db, float scale = 1.0f);

// What the active instruction set's multiply-add instruction reaches on one core with all operands
// in registers, in FLOP/s: the ceiling that benchmarks divide by. Takes about 10 ms.
double matmul_peak_flops(DType dtype);

}  // namespace moltide
