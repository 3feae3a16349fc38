// What matmul.cpp hands to the per-ISA objects: plain data, no inline functions.
#pragma once
#include <cstdint>

namespace moltide {

// Outputs per packed panel; what k is padded to in packed bf16.
constexpr int64_t kPanel = 16;
constexpr int64_t kBf16Pad = 32;

// What a packed float32 matrix knows of itself, for Winograd's inner product: for each output (in
// whole panels) the sum over k = 0, 4, 8 ... of w[k] w[k+1] - w[k+2] w[k+3], as far as k goes in
// fours; the root mean square of its values, or 0 where rows cannot be brought to it.
struct PackedSums {
  float* pairs = nullptr;
  float* size = nullptr;
  double* squares = nullptr;  // of each panel, where size comes from
};

struct MatmulParams {
  const void* x;
  const void* w;
  const float* bias;
  void* y;
  void* pre;
  int64_t x_ld, y_ld, pre_ld;  // in elements
  int64_t m, n, k;
  bool bf16;    // type of x and w
  bool y_bf16;  // type of y and pre
  uint8_t epilogue;
  PackedSums sums{};  // for Winograd's inner product alone
};

// Whether a packed matrix carries them: float32 on processors that use them, from the size on where
// that is worth the work on rows and columns. How many rows there are has no say: a row's bits may
// not depend on it. packed_sums says where they are then.
bool has_packed_sums(int64_t n, int64_t k, bool bf16);
PackedSums packed_sums(const void* packed, int64_t n, int64_t k);

struct PackParams {
  const float* w;
  int64_t ld;
  bool transpose;
  int64_t n, k;
  float scale;
  bool bf16;
  void* out;
  PackedSums sums{};  // null: not wanted
};

struct DwParams {
  const void* dy;
  const void* x;
  float* dw;
  float* db;
  int64_t dy_ld, x_ld, dw_ld;
  int64_t m, n, k;
  float scale;
  bool bf16;  // type of dy and x
};

}  // namespace moltide
