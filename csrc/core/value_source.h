// ValueSource: float32 values that lie elsewhere, in a checkpoint's file, and can be read again.
#pragma once
#include <cstdint>

namespace moltide {

class ValueSource {
 public:
  virtual ~ValueSource() = default;
  virtual int64_t size() const = 0;
  // All values. Throws CheckpointFailure when they are no longer what they were, or not finite.
  virtual void read(float* into) const = 0;
};

}  // namespace moltide
