// What the CPU kernels of embedding read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

namespace moltide {

// Forward reads table and positions into x; backward reads x (= dx) and adds to them.
struct EmbeddingRows {
  const int32_t* tokens;
  const float* scale;  // null: ones
  const int32_t* position;
  int64_t position_offset;
  float* table;  // null: frozen (backward alone)
  int64_t table_ld;
  float* positions;  // null: none
  int64_t positions_ld;
  float* x;
  int64_t x_ld, rows, cols;
};

}  // namespace moltide
