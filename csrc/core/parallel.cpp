#include "core/parallel.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/env.h"

namespace moltide {
namespace {

thread_local bool inside_parallel = false;

struct Job {
  RangeFunction function;
  void* context;
  int64_t n;
  int64_t chunk;
  std::atomic<int64_t> next{0};
  std::atomic<int> running{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  void work() {
    inside_parallel = true;
    for (;;) {
      const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= n) break;
      try {
        function(context, begin, begin + chunk < n ? begin + chunk : n);
      } catch (...) {
        std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
        next.store(n, std::memory_order_relaxed);
      }
    }
    inside_parallel = false;
  }
};

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { loop(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void run(Job& job) {
    job.running.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job.work();
    for (int spin = 0; job.running.load(std::memory_order_acquire) != 0; ++spin) {
      if (spin > kSpins) std::this_thread::yield();
    }
  }

 private:
  // Steps follow each other within microseconds: a short spin saves a sleep and a wake-up per op.
  static constexpr int kSpins = 2000;

  void loop() {
    uint64_t seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen;
           ++spin) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
      Job* job = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
        if (stop_) return;
        seen = generation_.load(std::memory_order_relaxed);
        job = job_;
      }
      job->work();
      job->running.fetch_sub(1, std::memory_order_release);
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  Job* job_ = nullptr;
  bool stop_ = false;
};

struct State {
  std::mutex mutex;  // held while a parallel_for uses the pool, and while its size changes
  int threads = 0;
  Pool* pool = nullptr;
};

State* state = nullptr;
std::once_flag state_once;

// A forked child has none of its parent's threads and perhaps its locked mutex: it starts afresh,
// and the parent's pool is left alone (destroying it would wait for threads that do not exist).
void after_fork_in_child() {
  const int threads = state->threads;
  state = new State;
  state->threads = threads;
  inside_parallel = false;
}

State& shared_state() {
  std::call_once(state_once, [] {
    state = new State;
    state->threads = default_num_threads();
    pthread_atfork(nullptr, nullptr, after_fork_in_child);
  });
  return *state;
}

}  // namespace

void parallel_for_raw(int64_t n, int64_t grain, RangeFunction function, void* context) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  State& s = shared_state();
  std::unique_lock<std::mutex> lock(s.mutex, std::defer_lock);
  if (n <= grain || inside_parallel || s.threads == 1 || !lock.try_lock()) {
    function(context, 0, n);
    return;
  }
  if (!s.pool) s.pool = new Pool(s.threads);
  Job job;
  job.function = function;
  job.context = context;
  job.n = n;
  const int64_t share = (n + 4 * s.threads - 1) / (4 * s.threads);
  job.chunk = share > grain ? share : grain;
  s.pool->run(job);
  if (job.error) std::rethrow_exception(job.error);
}

int num_threads() {
  return shared_state().threads;
}

void set_num_threads(int n) {
  MOLTIDE_CHECK(n >= 1 && n <= 1024, "number of threads: got ", n, ", allowed 1..1024");
  State& s = shared_state();
  std::lock_guard<std::mutex> lock(s.mutex);
  if (n == s.threads) return;
  delete s.pool;
  s.pool = nullptr;
  s.threads = n;
}

void* thread_scratch(Scratch slot, size_t bytes) {
  struct Buffer {
    void* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffers[4];
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (bytes > buffer.size) {
    std::free(buffer.data);
    buffer.data = nullptr;
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    buffer.data = std::aligned_alloc(64, rounded);
    buffer.size = buffer.data ? rounded : 0;
    if (!buffer.data) throw std::bad_alloc();
  }
  return buffer.data;
}

}  // namespace moltide
