// What the CPU kernels of gate read and write; plain data, shared with the per-ISA objects.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

enum class Gate : uint8_t { sigmoid, linear };

struct GateRows {
  const float *x, *g, *dy;  // dy: backward
  void *y, *dg;             // backward: y is dx
  int64_t x_ld, g_ld, dy_ld, y_ld, dg_ld, cols;
  DType y_type, dg_type;
  float scale;
  bool sigmoid;
};

}  // namespace moltide
