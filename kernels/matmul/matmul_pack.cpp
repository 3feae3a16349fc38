// Packing, once for all instruction sets: panels of 16 outputs, for float32 [k][16], for bf16
// [k/2][16][2] with k padded to 32; zeros beyond n and k.
#include "core/check.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "matmul/matmul.h"
#include "matmul/matmul_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, pack_panels, const PackParams& p, int64_t begin, int64_t end)

namespace {

int64_t padded_k(int64_t k, DType dtype) {
  return dtype == DType::f32 ? k : (k + kBf16Pad - 1) / kBf16Pad * kBf16Pad;
}

}  // namespace

int64_t packed_bytes(int64_t n, int64_t k, DType dtype) {
  MOLTIDE_CHECK(n >= 0 && k >= 0, "packed_bytes: a map of ", k, " to ", n, " values");
  return (n + kPanel - 1) / kPanel * kPanel * padded_k(k, dtype) * dtype_bytes(dtype);
}

void pack_matrix(const float* w, int64_t ld, bool transpose, int64_t n, int64_t k, float scale,
                 DType dtype, void* out) {
  const int64_t bytes = packed_bytes(n, k, dtype);
  if (bytes == 0) return;
  MOLTIDE_CHECK(w && out, "pack_matrix: no memory given for ", w ? "the packed matrix" : "w");
  MOLTIDE_CHECK(ld >= (transpose ? n : k), "pack_matrix: w has rows ", ld,
                " elements apart, expected at least ", transpose ? n : k);
  MOLTIDE_CHECK(reinterpret_cast<uintptr_t>(out) % 64 == 0,
                "pack_matrix: out lies at an address that is not a multiple of 64");
  const PackParams p{w, ld, transpose, n, k, scale, dtype == DType::bf16, out};
  parallel_for((n + kPanel - 1) / kPanel, 4,
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(pack_panels, p, begin, end); });
}

}  // namespace moltide
