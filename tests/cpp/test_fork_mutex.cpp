#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/fork_mutex.h"

namespace moltide {
namespace {

// The exit status of `f` in a forked child, which ends after 20 seconds at the latest.
template <class F>
int in_child(F f) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(f());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ForkMutex, LetsOneInAtATime) {
  ForkMutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        std::lock_guard<ForkMutex> lock(mutex);
        ++count;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(count, 8000);
}

TEST(ForkMutex, AFreeOneIsFreeInTheChildAndItsChild) {
  ForkMutex mutex;
  {
    std::lock_guard<ForkMutex> lock(mutex);
  }
  const uint32_t before = fork_generation();
  const int code = in_child([&] {
    {
      std::lock_guard<ForkMutex> lock(mutex);
    }
    const int inner = in_child([&] {
      std::lock_guard<ForkMutex> lock(mutex);
      return fork_generation() == before + 2 ? 0 : 1;
    });
    return inner != 0 || fork_generation() != before + 1;
  });
  EXPECT_EQ(code, 0);
}

TEST(ForkMutex, AHeldOneIsRefusedInTheChildRatherThanWaitedFor) {
  ForkMutex mutex;
  std::lock_guard<ForkMutex> lock(mutex);
  const int code = in_child([&] {
    try {
      mutex.lock();
      return 1;
    } catch (const std::runtime_error&) {
      return 0;
    }
  });
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace moltide
