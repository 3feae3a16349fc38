// matmul_i8: y = epilogue(x_scale * w_scale * (xq Wq) + bias) on 8-bit codes, for inference
// Shapes    x (M,K) int8 rows, y (M,N) any row stride; W maps K values to N, packed; bias (N) f32
// Types     x, W: codes -127 .. 127, a scale for each row of x and each output of W; y f32 or bf16,
//           or int8 rows. Sums are int32 and exact: no instruction used here saturates (x86: pairs
//           of 16 bits by pmaddwd; VNNI on x + 128, less 128 times W's column sums; AMX signed)
// Writes    store y =, accumulate y +=, gelu y =;  gelu_quantize q =, zeros up to q's row stride
// Epilogue  store      y = v, v = float(sum) * (w_scale * x_scale) + bias, rounded once to y's type
//           accumulate y = y + v, added in f32
//           gelu       y = gelu(v) (erf form)
//           matmul_i8_gelu: q = quantize(gelu(v)), with gelu within 2e-4 (device/gelu_int8.h)
// Aliasing  none
// Needs     K at most 131,072 (the sums' range); packed data 64-byte aligned; x's and q's row
//           strides multiples of 64, what lies in x's rows beyond K is read and does not matter;
//           else refused in matmul_i8.cpp. M, N, K of 0 are legal
// Workspace thread_scratch only; no allocation once the shapes have been seen
// Repeat    a row has the same bits whatever M, its place and the thread count; sums are the same
//           on every instruction set, and so is y of store and accumulate (bf16 denormals apart,
//           which avx512_bf16 and amx write as zero)
// Special   a row of x or an output of W with scale NaN (it held NaN or Inf) gives NaN, and no
//           other row or column
// Error     the rounding of x and W (half a scale an element); then tests/tolerances.py
#pragma once
#include "core/int8_rows.h"
#include "core/tensor.h"

namespace moltide {

// W packed: panels of 16 outputs in groups of four along k ([k/4][16][4], k padded to 64), then for
// each output -128 times its column sum (int32) and its scale (f32). One format for every
// instruction set.
struct PackedInt8 {
  const void* data = nullptr;
  int64_t n = 0;
  int64_t k = 0;
};

int64_t packed_int8_bytes(int64_t n, int64_t k);
// w (n,k) f32, a Linear layer's weight, rows ld apart: y = x w^T. Each output is rounded as
// quantize rounds a row.
void pack_int8(const float* w, int64_t ld, int64_t n, int64_t k, void* out);

enum class Int8Epilogue : uint8_t { store, accumulate, gelu };

void matmul_i8(const Int8Rows& x, const PackedInt8& w, const float* bias, const Tensor& y,
               Int8Epilogue epilogue = Int8Epilogue::store);
void matmul_i8_gelu(const Int8Rows& x, const PackedInt8& w, const float* bias, const Int8Rows& q);

// What the active instruction set's multiply-add instruction reaches on one core with all operands
// in registers, in operations/s: the ceiling that benchmarks divide by. Takes about 10 ms.
double matmul_i8_peak();

}  // namespace moltide
