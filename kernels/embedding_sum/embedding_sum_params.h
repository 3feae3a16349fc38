// What the CPU kernels of embedding_sum read and write; plain data, shared with the per-ISA
// objects.
#pragma once
#include <cstdint>

namespace moltide {

// Forward reads table into x; backward reads x (= dx) and adds to table.
struct EmbeddingSumRows {
  const int16_t* ids;
  int64_t stride, count;
  float scale;
  float* table;
  int64_t table_ld;
  float* x;
  int64_t x_ld, rows, cols;
};

}  // namespace moltide
