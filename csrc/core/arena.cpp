#include "core/arena.h"

#include "core/check.h"

namespace moltide {

void Arena::reserve(int64_t bytes) {
  if (bytes <= capacity_) return;
  std::free(data_);
  capacity_ = 0;
  const int64_t rounded = (bytes + 4095) / 4096 * 4096;
  data_ = static_cast<char*>(std::aligned_alloc(4096, static_cast<size_t>(rounded)));
  if (!data_)
    throw MemoryPlanFailure(concat("the system refused ", rounded, " bytes for activations"));
  capacity_ = rounded;
}

}  // namespace moltide
