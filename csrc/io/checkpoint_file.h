// A file of weights kept open, and the tensors in it as float32.
//
// Bytes are read with pread into memory of ours, never mapped: a mapped file that is cut short
// kills the process, and pages of a mapping count as its memory. The open file outlives its name;
// one that is written to in place is refused from then on.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "core/value_source.h"

namespace moltide {

class CheckpointFile {
 public:
  // Throws CheckpointFailure when the file cannot be opened.
  explicit CheckpointFile(std::string path);
  ~CheckpointFile();
  CheckpointFile(const CheckpointFile&) = delete;
  CheckpointFile& operator=(const CheckpointFile&) = delete;

  const std::string& path() const { return path_; }
  // Bytes read: fewer than asked for at the end of the file. Throws CheckpointFailure for I/O
  // errors.
  int64_t read(void* into, int64_t bytes, int64_t at) const;
  // Throws CheckpointFailure when the file was written to since it was opened.
  void require_unchanged() const;

 private:
  std::string path_;
  int fd_ = -1;
  int64_t size_ = 0, seconds_ = 0, nanoseconds_ = 0;  // when it was opened
};

enum class StoredType : uint8_t { f32, bf16, f16, f64 };

class StoredTensor : public ValueSource {
 public:
  StoredTensor(std::shared_ptr<const CheckpointFile> file, std::string name, StoredType type,
               int64_t start, int64_t size);
  int64_t size() const override { return size_; }
  void read(float* into) const override;

 private:
  std::shared_ptr<const CheckpointFile> file_;
  std::string name_;
  StoredType type_;
  int64_t start_, size_;  // first byte, number of values
};

}  // namespace moltide
