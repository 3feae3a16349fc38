#include "core/fork_mutex.h"

#include <pthread.h>

#include <stdexcept>

namespace moltide {
namespace {

std::atomic<uint32_t> generation{1};
// Registered when the library is loaded, before there is anything to lock.
[[maybe_unused]] const int registered =
    pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); });

}  // namespace

uint32_t fork_generation() {
  return generation.load(std::memory_order_relaxed);
}

void ForkMutex::lock() {
  const uint32_t own = fork_generation();
  uint32_t holder = 0;
  while (!holder_.compare_exchange_weak(holder, own, std::memory_order_acquire)) {
    if (holder != 0 && holder != own)
      throw std::runtime_error(
          "this model was in use by another thread when the process was forked and may be half "
          "changed here; load it in the child, or start processes with 'spawn'");
    if (holder != 0) holder_.wait(holder, std::memory_order_relaxed);
    holder = 0;
  }
}

void ForkMutex::unlock() {
  holder_.store(0, std::memory_order_release);
  holder_.notify_one();
}

}  // namespace moltide
