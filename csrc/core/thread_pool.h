// ThreadPool: workers that take ranges of one job at a time beside the thread that brings it.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace moltide {

struct Job {
  void (*function)(void* context, int64_t begin, int64_t end);
  void* context;
  int64_t n;
  int64_t grain;
  int threads;
  alignas(64) std::atomic<int64_t> next{0};
  std::mutex error_mutex{};
  std::exception_ptr error{};  // the first that a range threw; ranges not yet taken are dropped

  void work();  // takes ranges until none is left
};

class ThreadPool {
 public:
  // threads - 1 workers; fewer where the system refuses more. A worker without work watches for
  // `spin_us` microseconds, then sleeps.
  ThreadPool(int threads, int spin_us);
  ~ThreadPool();
  // Returns when every range is done. The caller waits only for workers that have begun: one that
  // sleeps or waits for a processor holds nobody up. One caller at a time.
  void run(Job& job);

 private:
  void loop();
  // Blocks until there is a job newer than `seen`; false when the pool ends.
  bool await_job(uint64_t seen, uint64_t& gate);
  template <class Ready>
  bool spin_until(Ready ready) const;

  // Low half: workers inside the job, and whether more may enter; high half: the job's number.
  static constexpr uint64_t kInside = 0xffff, kOpen = 0x10000, kNumber = uint64_t{1} << 32;

  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  Job* job_ = nullptr;  // written while the gate is shut and nobody is inside
  const int spin_us_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
};

// Whether this thread is inside a job: a parallel_for made there runs where it is made.
bool& inside_job();

}  // namespace moltide
