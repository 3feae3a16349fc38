// A bias that changes nothing, a zero's sign included.
#pragma once
#include "device/simd.h"

namespace moltide::MOLTIDE_ISA {

constexpr int kMostColumns = 64;  // of a tile

struct NoBias {
  float value[kMostColumns];
  constexpr NoBias() : value() {
    for (float& v : value) v = -0.0f;
  }
};
static constexpr NoBias kNoBias;

}  // namespace moltide::MOLTIDE_ISA
