// Known answers of Random123 (Salmon et al. 2011), philox4x32 with 10 rounds, and what we add.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/philox.h"

namespace moltide {
namespace {

void expect_block(uint64_t key, uint64_t low, uint64_t high, const uint32_t (&expected)[4]) {
  const PhiloxBlock block = philox4x32(key, low, high);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(block.v[i], expected[i]) << "word " << i;
}

TEST(Philox, KnownAnswers) {
  expect_block(0, 0, 0, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  const uint64_t ones = ~uint64_t{0};
  expect_block(ones, ones, ones, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  // Counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0 (digits of pi), low word
  // first.
  expect_block(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x0370734413198a2eu,
               {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST(Philox, UniformIsInHalfOpenInterval) {
  EXPECT_EQ(philox_uniform(0), 0.0f);
  EXPECT_LT(philox_uniform(0xffffffffu), 1.0f);
  EXPECT_EQ(philox_uniform(0xffffffffu), 1.0f - 1.0f / 16777216.0f);
  EXPECT_EQ(philox_uniform(0x80000000u), 0.5f);
}

TEST(Philox, UniformHasTheRightMoments) {
  double sum = 0, squares = 0;
  constexpr int kBlocks = 50000;
  for (int i = 0; i < kBlocks; ++i) {
    for (uint32_t bits : philox4x32(7, static_cast<uint64_t>(i), 3).v) {
      const double u = philox_uniform(bits);
      sum += u;
      squares += u * u;
    }
  }
  const double n = 4.0 * kBlocks;
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
}

TEST(Philox, StreamsDoNotCollide) {
  std::set<uint64_t> seen;
  int count = 0;
  for (uint64_t step : {0u, 1u, 2u, 100000u}) {
    for (uint32_t layer : {0u, 1u, 47u}) {
      for (uint32_t site = 1; site < 20; ++site) {
        seen.insert(random_stream(step, layer, site));
        ++count;
      }
    }
  }
  EXPECT_EQ(static_cast<int>(seen.size()), count);
}

}  // namespace
}  // namespace moltide
