#include "core/aligned.h"

#include <sys/mman.h>

#include <utility>

#include "core/check.h"

namespace moltide {

AlignedBytes allocate_aligned(int64_t bytes) {
  const int64_t rounded = (bytes + 63) / 64 * 64;
  char* data =
      static_cast<char*>(std::aligned_alloc(64, static_cast<size_t>(rounded ? rounded : 64)));
  if (!data) throw MemoryPlanFailure(concat("the system refused ", rounded, " bytes for weights"));
  return AlignedBytes(data);
}

ZeroPages::ZeroPages(int64_t bytes) : bytes_(bytes > 0 ? bytes : 1) {
  void* data = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    throw MemoryPlanFailure(concat("the system refused ", bytes_, " bytes for weights"));
  data_ = static_cast<char*>(data);
}

ZeroPages::~ZeroPages() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

ZeroPages::ZeroPages(ZeroPages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

ZeroPages& ZeroPages::operator=(ZeroPages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace moltide
