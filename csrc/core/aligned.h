// Memory aligned for vector instructions, freed with its owner.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace moltide {

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<char, FreeDeleter>;

// At least `bytes`, 64-byte aligned, not set. Throws MemoryPlanFailure when the system refuses.
AlignedBytes allocate_aligned(int64_t bytes);

// Zeros in whole pages, of which the system gives those that are touched. Movable.
class ZeroPages {
 public:
  ZeroPages() = default;
  explicit ZeroPages(int64_t bytes);
  ~ZeroPages();
  ZeroPages(ZeroPages&& other) noexcept;
  ZeroPages& operator=(ZeroPages&& other) noexcept;

  char* get() const { return data_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace moltide
