// MOLTIDE_CHECK(condition, parts...): throws std::invalid_argument (ValueError in Python) built
// from values.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace moltide {

// MemoryError in Python: the predicted memory of a step does not fit.
struct MemoryPlanFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// moltide.CheckpointError in Python: a file of weights is not what it should be.
struct CheckpointFailure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace moltide

#define MOLTIDE_CHECK(condition, ...)                                              \
  do {                                                                             \
    if (!(condition)) throw std::invalid_argument(::moltide::concat(__VA_ARGS__)); \
  } while (0)
