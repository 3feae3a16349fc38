// parallel_for over a fixed pool of threads. What an index computes must not depend on the range it
// arrives in: ranges change with the thread count, results may not.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace moltide {

using RangeFunction = void (*)(void* context, int64_t begin, int64_t end);
void parallel_for_raw(int64_t n, int64_t grain, RangeFunction function, void* context);

// Calls f(begin, end) over disjoint ranges that cover [0, n), each at least `grain` long where n
// allows. A nested call, or one made while another Python thread uses the pool, runs on the calling
// thread.
template <class F>
static inline void parallel_for(int64_t n, int64_t grain, F&& f) {
  using Function = std::remove_reference_t<F>;
  parallel_for_raw(
      n, grain,
      [](void* context, int64_t begin, int64_t end) {
        (*static_cast<Function*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// A grain for row ops: about 16k elements, enough to hide a thread's wake-up.
static inline int64_t row_grain(int64_t cols) {
  return 16384 / (cols > 0 ? cols : 1) + 1;
}

int num_threads();
// Throws std::invalid_argument unless 1 <= n <= 1024.
void set_num_threads(int n);

// How many tasks of an op make the load even: whoever takes the last one keeps the others waiting
// for half of it.
static inline int64_t even_load_tasks() {
  const int threads = num_threads();
  return threads > 1 ? 16 * threads : 1;
}

// Memory of the calling thread, 64-byte aligned, at least `bytes`, kept between calls and grown
// when needed. A slot's contents live until the same thread asks for the same slot again.
enum class Scratch : int { attention, matmul_a, matmul_b, op, weight, count };
void* thread_scratch(Scratch slot, size_t bytes);

}  // namespace moltide
