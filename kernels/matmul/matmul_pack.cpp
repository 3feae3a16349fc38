// Packing, once for all instruction sets: panels of 16 outputs, for float32 [k][16], for bf16
// [k/2][16][2] with k padded to 32; zeros beyond n and k. Behind them PackedSums, where
// there are any.
#include <cmath>

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

int64_t panels_of(int64_t n) {
  return (n + kPanel - 1) / kPanel;
}

int64_t panel_bytes_total(int64_t n, int64_t k, DType dtype) {
  return panels_of(n) * kPanel * padded_k(k, dtype) * dtype_bytes(dtype);
}

constexpr int64_t kPanelSumBytes = kPanel * sizeof(float) + sizeof(double);

// Rows are brought to this size: products of such values must not leave float32's range.
float size_of(const double* squares, int64_t n, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i < panels_of(n); ++i) sum += squares[i];
  const double size = std::sqrt(sum / static_cast<double>(n * k));
  return size > 1e-9 && size < 1e9 ? static_cast<float>(size) : 0.0f;
}

}  // namespace

bool has_packed_sums(int64_t n, int64_t k, bool bf16) {
  return !bf16 && n >= 128 && k >= 64 && adders_apart();
}

int64_t packed_bytes(int64_t n, int64_t k, DType dtype) {
  MOLTIDE_CHECK(n >= 0 && k >= 0, "packed_bytes: a map of ", k, " to ", n, " values");
  const int64_t panels = panel_bytes_total(n, k, dtype);
  if (!has_packed_sums(n, k, dtype == DType::bf16)) return panels;
  return panels + panels_of(n) * kPanelSumBytes + static_cast<int64_t>(sizeof(double));
}

PackedSums packed_sums(const void* packed, int64_t n, int64_t k) {
  char* at = static_cast<char*>(const_cast<void*>(packed)) + panel_bytes_total(n, k, DType::f32);
  PackedSums sums;
  sums.pairs = reinterpret_cast<float*>(at);
  sums.squares = reinterpret_cast<double*>(sums.pairs + panels_of(n) * kPanel);
  sums.size = reinterpret_cast<float*>(sums.squares + panels_of(n));
  return sums;
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
  PackParams p{w, ld, transpose, n, k, scale, dtype == DType::bf16, out};
  const bool sums = has_packed_sums(n, k, p.bf16);
  if (sums) p.sums = packed_sums(out, n, k);
  parallel_for(panels_of(n), 4,
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(pack_panels, p, begin, end); });
  if (sums) *p.sums.size = size_of(p.sums.squares, n, k);
}

}  // namespace moltide
