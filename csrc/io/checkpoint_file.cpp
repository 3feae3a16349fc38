#include "io/checkpoint_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/aligned.h"
#include "core/check.h"
#include "core/dtype.h"

namespace moltide {
namespace {

constexpr int64_t kChunk = 1 << 16;  // values read, widened and checked while they are in cache

int64_t bytes_of(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return 4;
    case StoredType::f64:
      return 8;
    default:
      return 2;
  }
}

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return from_bits(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: exact
  return sign ? -magnitude : magnitude;
}

template <class Stored, class Widen>
void widen(const char* raw, float* into, int64_t n, Widen one) {
  for (int64_t i = 0; i < n; ++i) {
    Stored value;
    std::memcpy(&value, raw + i * static_cast<int64_t>(sizeof value), sizeof value);
    into[i] = one(value);
  }
}

void convert(StoredType type, const char* raw, float* into, int64_t n) {
  if (type == StoredType::bf16)
    widen<uint16_t>(raw, into, n, [](uint16_t v) { return bf16_to_float(bf16{v}); });
  else if (type == StoredType::f16)
    widen<uint16_t>(raw, into, n, half_to_float);
  else
    widen<double>(raw, into, n, [](double v) { return static_cast<float>(v); });
}

int64_t count_not_finite(const float* values, int64_t n) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, 4);
    found += (bits & 0x7f800000u) == 0x7f800000u;
  }
  return found;
}

std::string with_commas(int64_t n) {
  std::string text = std::to_string(n);
  for (int64_t at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

struct Times {
  int64_t size, seconds, nanoseconds;
};

Times times_of(int fd, const std::string& path) {
  struct stat status{};
  if (fstat(fd, &status) != 0)
    throw CheckpointFailure(concat(path, ": cannot be read: ", std::strerror(errno)));
#if defined(__APPLE__)
  const timespec& changed = status.st_mtimespec;
#else
  const timespec& changed = status.st_mtim;
#endif
  return {status.st_size, changed.tv_sec, changed.tv_nsec};
}

}  // namespace

CheckpointFile::CheckpointFile(std::string path) : path_(std::move(path)) {
  fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) throw CheckpointFailure(concat(path_, ": cannot be read: ", std::strerror(errno)));
  const Times now = times_of(fd_, path_);
  size_ = now.size;
  seconds_ = now.seconds;
  nanoseconds_ = now.nanoseconds;
}

CheckpointFile::~CheckpointFile() {
  if (fd_ >= 0) close(fd_);
}

int64_t CheckpointFile::read(void* into, int64_t bytes, int64_t at) const {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = pread(fd_, static_cast<char*>(into) + done,
                              static_cast<size_t>(bytes - done), static_cast<off_t>(at + done));
    if (got == 0) break;
    if (got < 0 && errno != EINTR)
      throw CheckpointFailure(concat(path_, ": cannot be read: ", std::strerror(errno)));
    if (got > 0) done += got;
  }
  return done;
}

void CheckpointFile::require_unchanged() const {
  const Times now = times_of(fd_, path_);
  if (now.size != size_ || now.seconds != seconds_ || now.nanoseconds != nanoseconds_)
    throw CheckpointFailure(concat(path_,
                                   ": the file was changed after the model was loaded from it; "
                                   "load the model again"));
}

StoredTensor::StoredTensor(std::shared_ptr<const CheckpointFile> file, std::string name,
                           StoredType type, int64_t start, int64_t size)
    : file_(std::move(file)), name_(std::move(name)), type_(type), start_(start), size_(size) {}

void StoredTensor::read(float* into) const {
  const int64_t width = bytes_of(type_);
  const AlignedBytes raw =
      type_ == StoredType::f32 ? nullptr : allocate_aligned(std::min(size_, kChunk) * width);
  int64_t not_finite = 0;
  for (int64_t first = 0; first < size_; first += kChunk) {
    const int64_t n = std::min(kChunk, size_ - first);
    float* values = into + first;
    void* target = raw ? static_cast<void*>(raw.get()) : values;
    const int64_t got = file_->read(target, n * width, start_ + first * width);
    if (got != n * width)
      throw CheckpointFailure(concat(file_->path(), ": tensor '", name_, "' needs ", size_,
                                     " values, the file gave ", first + got / width,
                                     "; it changed while being read"));
    if (raw) convert(type_, raw.get(), values, n);
    not_finite += count_not_finite(values, n);
  }
  file_->require_unchanged();
  if (not_finite)
    throw CheckpointFailure(concat(file_->path(), ": tensor '", name_, "' has ",
                                   with_commas(not_finite), " NaN or infinite values among ",
                                   with_commas(size_),
                                   "; the file is damaged, or its training diverged"));
}

}  // namespace moltide
