#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/parallel.h"

namespace moltide {
namespace {

class Parallel : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    before_ = num_threads();
    set_num_threads(GetParam());
  }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = 1;
};

// How often each index was visited.
std::vector<int> visits(int64_t n, int64_t grain) {
  std::vector<int> count(static_cast<size_t>(n));
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++count[static_cast<size_t>(i)];
  });
  return count;
}

TEST_P(Parallel, EveryIndexOnce) {
  for (int64_t n : {0, 1, 2, 3, 7, 64, 1000, 1001})
    for (int64_t grain : {0, 1, 3, 64, 5000})
      EXPECT_EQ(visits(n, grain), std::vector<int>(static_cast<size_t>(n), 1)) << n << ' ' << grain;
}

TEST_P(Parallel, RangesHoldTheGrain) {
  std::atomic<int> short_ranges{0};
  parallel_for(1000, 30, [&](int64_t begin, int64_t end) {
    if (end - begin < 30 && end != 1000) ++short_ranges;
  });
  EXPECT_EQ(short_ranges.load(), 0);
}

TEST_P(Parallel, ManySmallOnes) {
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 2000; ++round)
    parallel_for(8, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum.load(), 16000);
}

TEST_P(Parallel, NestedCallsRunWhereTheyAreMade) {
  std::atomic<int64_t> sum{0};
  std::atomic<int> strangers{0};
  parallel_for(16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto here = std::this_thread::get_id();
      parallel_for(100, 1, [&](int64_t from, int64_t to) {
        if (std::this_thread::get_id() != here) ++strangers;
        sum += to - from;
      });
    }
  });
  EXPECT_EQ(sum.load(), 1600);
  EXPECT_EQ(strangers.load(), 0);
}

TEST_P(Parallel, AnExceptionReachesTheCallerAndThePoolLivesOn) {
  for (int64_t bad : {0, 500, 999}) {
    try {
      parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
        if (begin <= bad && bad < end) throw std::out_of_range("index " + std::to_string(bad));
      });
      FAIL() << "nothing thrown";
    } catch (const std::out_of_range& e) {
      EXPECT_EQ(e.what(), "index " + std::to_string(bad));
    }
    EXPECT_EQ(visits(1000, 1), std::vector<int>(1000, 1));
  }
}

TEST_P(Parallel, EveryThreadMayThrow) {
  EXPECT_THROW(parallel_for(64, 1, [](int64_t, int64_t) { throw std::runtime_error("all"); }),
               std::runtime_error);
  EXPECT_EQ(visits(64, 1), std::vector<int>(64, 1));
}

TEST_P(Parallel, TwoCallersAtOnce) {
  std::vector<int> a, b;
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) a = visits(3000, 7);
  });
  for (int i = 0; i < 50; ++i) b = visits(2000, 7);
  other.join();
  EXPECT_EQ(a, std::vector<int>(3000, 1));
  EXPECT_EQ(b, std::vector<int>(2000, 1));
}

// A data loader's worker forks after the pool has started.
TEST_P(Parallel, AForkedChildComputesAndItsParentToo) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow threads started after a fork";
#elif defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer's allocator stays locked in a child if a thread was in it";
#endif
  visits(1000, 1);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    const bool right = num_threads() == GetParam() && visits(1000, 1) == std::vector<int>(1000, 1);
    set_num_threads(GetParam() + 1);
    _exit(right && visits(500, 1) == std::vector<int>(500, 1) ? 0 : 1);
  }
  EXPECT_EQ(visits(1000, 1), std::vector<int>(1000, 1));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "child ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(Parallel, ScratchIsAlignedAndStaysWithItsThread) {
  std::atomic<int> faults{0};
  parallel_for(64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t bytes = 100 + 977 * static_cast<size_t>(i);
      auto* p = static_cast<unsigned char*>(thread_scratch(Scratch::op, bytes));
      if (reinterpret_cast<uintptr_t>(p) % 64 != 0) ++faults;
      const auto mark = static_cast<unsigned char>(i);
      for (size_t j = 0; j < bytes; ++j) p[j] = mark;
      if (thread_scratch(Scratch::op, bytes) != p) ++faults;
      if (thread_scratch(Scratch::matmul_a, 64) == p) ++faults;
      for (size_t j = 0; j < bytes; ++j) faults += p[j] != mark;
    }
  });
  EXPECT_EQ(faults.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Threads, Parallel, ::testing::Values(1, 2, 3, 8));

TEST(Threads, OutOfRangeIsRefused) {
  const int before = num_threads();
  EXPECT_THROW(set_num_threads(0), std::invalid_argument);
  EXPECT_THROW(set_num_threads(-3), std::invalid_argument);
  EXPECT_THROW(set_num_threads(1025), std::invalid_argument);
  EXPECT_EQ(num_threads(), before);
}

TEST(Threads, TheCountCanChangeBetweenCalls) {
  const int before = num_threads();
  for (int n : {1, 4, 2, 7, 1, 3}) {
    set_num_threads(n);
    EXPECT_EQ(num_threads(), n);
    EXPECT_EQ(visits(777, 5), std::vector<int>(777, 1));
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace moltide
