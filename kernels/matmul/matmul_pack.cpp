// Packing, once for all instruction sets: panels of 16 outputs, for float32 [k][16], for bf16
// [k/2][16][2] with k padded to 32; zeros beyond n and k.
#include <cstring>

#include "core/check.h"
#include "core/parallel.h"
#include "matmul/matmul.h"
#include "matmul/matmul_params.h"

namespace moltide {
namespace {

int64_t padded_k(int64_t k, DType dtype) {
  return dtype == DType::f32 ? k : (k + kBf16Pad - 1) / kBf16Pad * kBf16Pad;
}

// values[kk][j] = scale * W(k + kk -> n + j) for kk < count, j < cols; zero for other j < 16.
struct Block {
  static constexpr int64_t kCount = 32;
  float values[kCount][kPanel];

  void read(const float* w, int64_t ld, bool transpose, int64_t n, int64_t cols, int64_t k,
            int64_t count, float scale) {
    std::memset(values, 0, sizeof(values));
    for (int64_t outer = 0; outer < (transpose ? count : cols); ++outer) {
      const float* from = transpose ? w + (k + outer) * ld + n : w + (n + outer) * ld + k;
      if (transpose)
        for (int64_t j = 0; j < cols; ++j) values[outer][j] = scale * from[j];
      else
        for (int64_t kk = 0; kk < count; ++kk) values[kk][outer] = scale * from[kk];
    }
  }
};

void write_pairs(const Block& block, bf16* out) {
  for (int64_t kk = 0; kk < Block::kCount; kk += 2)
    for (int64_t j = 0; j < kPanel; ++j) {
      *out++ = float_to_bf16(block.values[kk][j]);
      *out++ = float_to_bf16(block.values[kk + 1][j]);
    }
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
  const int64_t panels = (n + kPanel - 1) / kPanel;
  const int64_t panel_values = padded_k(k, dtype) * kPanel;
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    Block block;
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * kPanel;
      const int64_t cols = n - first < kPanel ? n - first : kPanel;
      for (int64_t kk = 0; kk < k; kk += Block::kCount) {
        const int64_t count = k - kk < Block::kCount ? k - kk : Block::kCount;
        block.read(w, ld, transpose, first, cols, kk, count, scale);
        const int64_t at = panel * panel_values + kk * kPanel;
        if (dtype == DType::bf16)
          write_pairs(block, static_cast<bf16*>(out) + at);
        else
          std::memcpy(static_cast<float*>(out) + at, block.values,
                      static_cast<size_t>(count * kPanel) * sizeof(float));
      }
    }
  });
}

}  // namespace moltide
