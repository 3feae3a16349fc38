// Int8Rows: a non-owning view of rows of codes in -127 .. 127 with one scale each; the element is
// scale[row] * data[row * ld + col]. Functions are `static inline`, as in dtype.h.
#pragma once
#include <cstdint>

namespace moltide {

struct Int8Rows {
  int8_t* data = nullptr;
  float* scale = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;  // int8_ld(cols) or a larger multiple of 64

  Int8Rows slice_rows(int64_t begin, int64_t end) const {
    return {data + begin * ld, scale + begin, end - begin, cols, ld};
  }
};

// Rows begin 64 codes apart, or a multiple of that: what a tile register loads at once.
static inline int64_t int8_ld(int64_t cols) {
  return (cols + 63) / 64 * 64;
}

}  // namespace moltide
