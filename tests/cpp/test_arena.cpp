#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "core/arena.h"
#include "core/check.h"

namespace moltide {
namespace {

void hand_out(Cursor& cursor, Tensor* first, float** second) {
  *first = cursor.tensor(3, 5, DType::bf16);
  const int64_t mark = cursor.mark();
  *second = cursor.floats(100);
  cursor.release(mark);
  cursor.ints(7);
}

TEST(Arena, ThePlanIsWhatIsHandedOut) {
  Tensor tensor;
  float* floats = nullptr;
  Cursor plan;
  hand_out(plan, &tensor, &floats);
  EXPECT_EQ(tensor.data, nullptr);
  EXPECT_EQ(floats, nullptr);
  EXPECT_EQ(plan.peak(), 64 + 448);

  Arena arena;
  arena.reserve(plan.peak());
  Cursor real(arena.base());
  hand_out(real, &tensor, &floats);
  EXPECT_EQ(real.peak(), plan.peak());
  EXPECT_EQ(tensor.data, arena.base());
  EXPECT_EQ(reinterpret_cast<char*>(floats), arena.base() + 64);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(floats) % 64, 0u);
  std::memset(arena.base(), 1, static_cast<size_t>(plan.peak()));
}

TEST(Arena, ReleasedMemoryIsUsedAgain) {
  Arena arena;
  arena.reserve(1000);
  Cursor cursor(arena.base());
  const int64_t mark = cursor.mark();
  void* first = cursor.bytes(500);
  cursor.release(mark);
  EXPECT_EQ(cursor.bytes(300), first);
  EXPECT_EQ(cursor.peak(), 512);
}

TEST(Arena, GrowsAndNeverShrinks) {
  Arena arena;
  arena.reserve(0);
  EXPECT_EQ(arena.base(), nullptr);
  arena.reserve(5000);
  const int64_t capacity = arena.capacity();
  EXPECT_GE(capacity, 5000);
  char* base = arena.base();
  arena.reserve(100);
  EXPECT_EQ(arena.base(), base);
  EXPECT_EQ(arena.capacity(), capacity);
  arena.reserve(50000);
  EXPECT_GE(arena.capacity(), 50000);
}

TEST(Check, BuildsTheMessageFromValues) {
  try {
    MOLTIDE_CHECK(1 > 2, "width: got ", 3, ", allowed ", 4.5);
    FAIL() << "nothing thrown";
  } catch (const std::invalid_argument& e) {
    EXPECT_STREQ(e.what(), "width: got 3, allowed 4.5");
  }
}

}  // namespace
}  // namespace moltide
