// How fast something runs on a machine that others use too: the best of many runs, for other work
// only takes away.
#pragma once
#include <chrono>
#include <cstdint>

namespace moltide {

// Seconds of the fastest call within `seconds`, after one that warms up.
template <class Call>
double fastest_call(double seconds, Call&& call) {
  using Clock = std::chrono::steady_clock;
  call();
  double best = 1e30;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto begin = Clock::now();
    call();
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    best = took < best ? took : best;
  } while (Clock::now() < end);
  return best;
}

// Operations a second of loop(n), which says how many its n turns took: the highest in 10 ms.
template <class Loop>
double highest_rate(Loop&& loop) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  int64_t n = 1000;
  for (const auto end = Clock::now() + std::chrono::milliseconds(10); Clock::now() < end;) {
    const auto begin = Clock::now();
    const double operations = static_cast<double>(loop(n));
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (seconds < 2e-4) {
      n *= 2;
      continue;
    }
    best = best > operations / seconds ? best : operations / seconds;
  }
  return best;
}

}  // namespace moltide
