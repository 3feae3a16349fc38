// ForkMutex: a mutex that cannot stay locked for ever in a forked child, where the thread that held
// it does not exist.
#pragma once
#include <atomic>
#include <cstdint>

namespace moltide {

// 1, and one more in a process for each fork between it and the first.
uint32_t fork_generation();

class ForkMutex {
 public:
  // Throws std::runtime_error in a child that was forked while another thread held the lock: what
  // it guards may be half changed there.
  void lock();
  void unlock();

 private:
  std::atomic<uint32_t> holder_{0};  // 0: free; else the generation of the process that holds it
};

}  // namespace moltide
