#include "core/parallel.h"

#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>

#include "core/check.h"
#include "core/cpus.h"
#include "core/env.h"
#include "core/thread_pool.h"

namespace moltide {
namespace {

// Ops follow each other within microseconds: watching this long saves a sleep and a wake-up each.
constexpr int kSpinMicroseconds = 50;

struct State {
  std::mutex mutex;  // held while a parallel_for uses the pool, and while its size changes
  std::atomic<int> threads{0};  // 0: not asked for yet
  ThreadPool* pool = nullptr;   // made at first use; lives as long as the process
};

// Never destroyed: workers may outlive static objects.
alignas(State) char state_memory[sizeof(State)];
State* const state = new (state_memory) State;

// A forked child has none of its parent's threads and perhaps its locked mutex: it starts afresh in
// place, and forgets the parent's pool (destroying it would wait for threads that do not exist).
void after_fork_in_child() {
  const int threads = state->threads.load();
  new (state_memory) State;
  state->threads.store(threads);
  inside_job() = false;
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

// More threads than processors: a thread that watches takes the processor of one that computes.
ThreadPool* new_pool(int threads) {
  const bool room = threads <= static_cast<int>(allowed_cpus().size());
  return new ThreadPool(threads, room ? kSpinMicroseconds : 0);
}

}  // namespace

void parallel_for_raw(int64_t n, int64_t grain, RangeFunction function, void* context) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  const int threads = n <= grain || inside_job() ? 1 : num_threads();
  std::unique_lock<std::mutex> lock(state->mutex, std::defer_lock);
  if (threads == 1 || !lock.try_lock()) {
    function(context, 0, n);
    return;
  }
  if (!state->pool) state->pool = new_pool(state->threads.load());
  Job job{function, context, n, grain, threads};
  state->pool->run(job);
  if (job.error) std::rethrow_exception(job.error);
}

int num_threads() {
  int threads = state->threads.load(std::memory_order_relaxed);
  if (threads > 0) return threads;
  const int wanted = default_num_threads();
  // Whoever asked first, or set_num_threads meanwhile, has decided.
  return state->threads.compare_exchange_strong(threads, wanted) ? wanted : threads;
}

void set_num_threads(int n) {
  MOLTIDE_CHECK(n >= 1 && n <= kMaxThreads, "number of threads: got ", n, ", allowed 1..",
                kMaxThreads);
  std::lock_guard<std::mutex> lock(state->mutex);
  if (n == state->threads.load()) return;
  delete state->pool;
  state->pool = nullptr;
  state->threads.store(n);
}

void* thread_scratch(Scratch slot, size_t bytes) {
  struct Buffer {
    void* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffers[static_cast<int>(Scratch::count)];
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
