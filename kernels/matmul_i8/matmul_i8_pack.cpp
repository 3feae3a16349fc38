// Packing, once for all instruction sets.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "matmul_i8/matmul_i8.h"
#include "matmul_i8/matmul_i8_params.h"

namespace moltide {
namespace {

// As device/quantize_row.h, which is for sources compiled per instruction set: the same bits.
float quantize_output(const float* w, int64_t k, int8_t* codes) {
  uint32_t amax_bits = 0;
  for (int64_t i = 0; i < k; ++i) {
    uint32_t bits;
    std::memcpy(&bits, w + i, 4);
    bits &= 0x7fffffffu;
    amax_bits = bits > amax_bits ? bits : amax_bits;
  }
  float amax;
  std::memcpy(&amax, &amax_bits, 4);
  const bool finite = amax_bits < 0x7f800000u;
  if (!finite || amax < 0x1p-100f) {
    std::memset(codes, 0, static_cast<size_t>(k));
    return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float inverse = 127.0f / amax;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  for (int64_t i = 0; i < k; ++i)
    codes[i] = static_cast<int8_t>(static_cast<int>((w[i] * inverse + kMagic) - kMagic));
  return amax / 127.0f;
}

}  // namespace

int64_t packed_int8_bytes(int64_t n, int64_t k) {
  MOLTIDE_CHECK(n >= 0 && k >= 0, "packed_int8_bytes: a map of ", k, " to ", n, " values");
  return (n + kInt8Panel - 1) / kInt8Panel * kInt8Panel * (int8_ld(k) + 8);
}

void pack_int8(const float* w, int64_t ld, int64_t n, int64_t k, void* out) {
  const int64_t bytes = packed_int8_bytes(n, k);
  if (bytes == 0) return;
  MOLTIDE_CHECK((w || k == 0) && out, "pack_int8: no memory given for ",
                out ? "w" : "the packed matrix");
  MOLTIDE_CHECK(ld >= k, "pack_int8: w has rows ", ld, " elements apart, expected at least ", k);
  MOLTIDE_CHECK(reinterpret_cast<uintptr_t>(out) % 64 == 0,
                "pack_int8: out lies at an address that is not a multiple of 64");
  const int64_t panels = (n + kInt8Panel - 1) / kInt8Panel, padded = int8_ld(k);
  int8_t* codes = static_cast<int8_t*>(out);
  int32_t* offset = reinterpret_cast<int32_t*>(codes + panels * kInt8Panel * padded);
  float* scale = reinterpret_cast<float*>(offset + panels * kInt8Panel);
  std::memset(out, 0, static_cast<size_t>(bytes));
  parallel_for(panels, 4, [&](int64_t begin, int64_t end) {
    std::vector<int8_t> row(static_cast<size_t>(padded));
    for (int64_t j = begin * kInt8Panel; j < end * kInt8Panel && j < n; ++j) {
      scale[j] = quantize_output(w + j * ld, k, row.data());
      int32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += row[static_cast<size_t>(i)];
      offset[j] = -128 * sum;
      int8_t* panel = codes + j / kInt8Panel * kInt8Panel * padded + j % kInt8Panel * 4;
      for (int64_t i = 0; i < padded; i += 4)
        std::memcpy(panel + i * kInt8Panel, row.data() + i, 4);
    }
  });
}

}  // namespace moltide
