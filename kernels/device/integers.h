// Sizes and places of blocks. In the instruction set's namespace, unlike the standard library's.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

MOLTIDE_INLINE int64_t div_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
MOLTIDE_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
MOLTIDE_INLINE int64_t bigger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

}  // namespace moltide::MOLTIDE_ISA
