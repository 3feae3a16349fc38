#include <gtest/gtest.h>

#include "core/denormals.h"

namespace moltide {
namespace {

float half_of(float x) {
  volatile float value = x;
  return value * 0.5f;
}

TEST(Denormals, CountAsZeroWhileFlushed) {
  constexpr float kSmallest = 0x1p-126f, kDenormal = 0x1p-127f;
  EXPECT_EQ(half_of(kSmallest), kDenormal);
  {
    const FlushDenormals flush;
    EXPECT_EQ(half_of(kSmallest), 0.0f);
    volatile float denormal = kDenormal;
    EXPECT_EQ(denormal * 0x1p20f, 0.0f);
    {
      const FlushDenormals again;
      EXPECT_EQ(half_of(kSmallest), 0.0f);
    }
    EXPECT_EQ(half_of(kSmallest), 0.0f);
  }
  EXPECT_EQ(half_of(kSmallest), kDenormal);
}

}  // namespace
}  // namespace moltide
