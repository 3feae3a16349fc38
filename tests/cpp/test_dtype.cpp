// bf16 rounding, every upper half of a float against every interesting lower half.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "core/tensor.h"

namespace moltide {
namespace {

float from_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// The same rule said in another way: of the two bf16 numbers around f the nearer, and of two as
// near the even one. Beyond the largest, the next would be 2^128.
uint16_t nearest_even(float f) {
  const double x = std::fabs(static_cast<double>(f));
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16) & 0x8000u;
  const uint16_t low = static_cast<uint16_t>(bits >> 16) & 0x7fffu;
  if (std::isinf(f)) return sign | low;
  const uint16_t high = low + 1;
  const double a = bf16_to_float(bf16{low});
  const double b = high == 0x7f80u ? std::ldexp(1.0, 128) : bf16_to_float(bf16{high});
  if (x - a != b - x) return sign | (x - a < b - x ? low : high);
  return sign | (low % 2 == 0 ? low : high);
}

TEST(Bf16, RoundsToNearestEvenEverywhere) {
  const uint32_t low_halves[] = {0, 1, 2, 0x3fff, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xc000, 0xffff};
  for (uint32_t high = 0; high < 0x10000u; ++high) {
    for (uint32_t low : low_halves) {
      const float f = from_bits(high << 16 | low);
      const uint16_t got = float_to_bf16(f).bits;
      if (std::isnan(f)) {
        ASSERT_TRUE(std::isnan(bf16_to_float(bf16{got}))) << std::hex << high << ' ' << low;
        ASSERT_EQ(got & 0x8000u, high & 0x8000u);
      } else {
        ASSERT_EQ(got, nearest_even(f)) << std::hex << high << ' ' << low;
      }
    }
  }
}

TEST(Bf16, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float f = bf16_to_float(bf16{static_cast<uint16_t>(bits)});
    if (std::isnan(f))
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(f))));
    else
      ASSERT_EQ(float_to_bf16(f).bits, bits);
  }
}

TEST(Tensor, SlicesShareTheStorage) {
  float data[24] = {};
  const Tensor t = f32_tensor(data, 4, 6);
  const Tensor middle = t.slice_rows(1, 3).slice_cols(2, 3);
  EXPECT_EQ(middle.rows, 2);
  EXPECT_EQ(middle.cols, 3);
  EXPECT_EQ(middle.at(1, 2), &data[2 * 6 + 4]);
  EXPECT_FALSE(static_cast<bool>(Tensor{}));
  const Tensor half = make_tensor(data, 2, 6, DType::bf16);
  EXPECT_EQ(half.at(1), reinterpret_cast<char*>(data) + 12);
}

}  // namespace
}  // namespace moltide
