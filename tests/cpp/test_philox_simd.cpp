// The generator in vectors against the scalar one, where the counter's low word wraps too.
#define MOLTIDE_ISA philox_simd_test
#include "device/philox_simd.h"

#include <gtest/gtest.h>

#include "core/philox.h"

namespace moltide::MOLTIDE_ISA {
namespace {

void expect_same(uint64_t key, uint64_t low, uint64_t high) {
  vf uniform[4];
  philox_uniforms(key, low, high, uniform);
  for (int i = 0; i < 4 * W; ++i) {
    const PhiloxBlock block = philox4x32(key, low + static_cast<uint64_t>(i / 4), high);
    EXPECT_EQ(uniform[i / W][i % W], philox_uniform(block.v[i % 4]))
        << "draw " << i << " of counter " << low;
  }
}

TEST(PhiloxSimd, SameAsScalar) {
  expect_same(0, 0, 0);
  expect_same(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x0370734413198a2eu);
}

TEST(PhiloxSimd, CarriesIntoTheHighWord) {
  for (uint64_t back = 0; back < 5; ++back) {
    expect_same(7, 0x100000000u - back, 3);
    expect_same(7, 0x5ffffffffu - back, 3);
  }
}

}  // namespace
}  // namespace moltide::MOLTIDE_ISA
