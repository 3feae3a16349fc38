// What is about to be read or written, asked for while other work goes on.
#pragma once
#include <cstdint>

#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

// `rows` rows of `bytes`, `ld_bytes` apart: into the L2 cache to be read, into the L1 cache to be
// written.
template <bool kWrite = true>
MOLTIDE_INLINE void prefetch_rows(const void* at, int64_t ld_bytes, int64_t rows, int64_t bytes) {
  const char* row = static_cast<const char*>(at);
  for (int64_t i = 0; i < rows; ++i, row += ld_bytes)
    for (int64_t j = 0; j < bytes; j += 64) __builtin_prefetch(row + j, kWrite, kWrite ? 3 : 2);
}

}  // namespace moltide::MOLTIDE_ISA
