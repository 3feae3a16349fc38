#include "core/thread_pool.h"

#include <chrono>
#include <system_error>

namespace moltide {
namespace {

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");
#endif
}

}  // namespace

bool& inside_job() {
  static thread_local bool inside = false;
  return inside;
}

void Job::work() {
  inside_job() = true;
  int64_t begin = next.load(std::memory_order_relaxed);
  while (begin < n) {
    // Large ranges first, then smaller ones: nobody waits long for the thread that comes last.
    const int64_t share = (n - begin) / (2 * threads);
    const int64_t end = begin + (share > grain ? share : grain);
    if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
    try {
      function(context, begin, end < n ? end : n);
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
      next.store(n, std::memory_order_relaxed);
    }
    begin = next.load(std::memory_order_relaxed);
  }
  inside_job() = false;
}

ThreadPool::ThreadPool(int threads, int spin_us) : spin_us_(spin_us) {
  workers_.reserve(static_cast<size_t>(threads));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { loop(); });
  } catch (const std::system_error&) {
    // A limit on processes or memory: the workers there are, and the caller, do the work.
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

// The loads and stores of gate_, sleepers_ and caller_sleeps_ are sequentially consistent: who goes
// to sleep says so and looks again, who has news says so and looks for sleepers.
void ThreadPool::run(Job& job) {
  job_ = &job;
  gate_.store((gate_.load(std::memory_order_relaxed) / kNumber + 1) * kNumber | kOpen);
  if (sleepers_.load() > 0) {
    const int64_t others = (job.n - 1) / job.grain;
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    if (others >= static_cast<int64_t>(workers_.size())) {
      wake_.notify_all();
    } else {
      for (int64_t i = 0; i < others; ++i) wake_.notify_one();
    }
  }
  job.work();
  gate_.fetch_and(~kOpen);
  const auto empty = [this] { return (gate_.load() & kInside) == 0; };
  if (spin_until(empty)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_.store(true);
  done_.wait(lock, empty);
  caller_sleeps_.store(false);
}

void ThreadPool::loop() {
  uint64_t seen = 0, gate = 0;
  while (await_job(seen, gate)) {
    if (!gate_.compare_exchange_weak(gate, gate + 1)) continue;
    seen = gate / kNumber;
    job_->work();
    if ((gate_.fetch_sub(1) & (kOpen | kInside)) == 1 && caller_sleeps_.load()) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }
}

bool ThreadPool::await_job(uint64_t seen, uint64_t& gate) {
  const auto ready = [&] {
    gate = gate_.load();
    return ((gate & kOpen) != 0 && gate / kNumber != seen) || stop_.load();
  };
  if (!spin_until(ready)) {
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, ready);
    sleepers_.fetch_sub(1);
  }
  return !stop_.load();
}

template <class Ready>
bool ThreadPool::spin_until(Ready ready) const {
  using Clock = std::chrono::steady_clock;
  if (ready()) return true;
  if (spin_us_ == 0) return false;
  const auto end = Clock::now() + std::chrono::microseconds(spin_us_);
  do {
    for (int i = 0; i < 16; ++i) {
      pause_briefly();
      if (ready()) return true;
    }
  } while (Clock::now() < end);
  return false;
}

}  // namespace moltide
