// Arena: one allocation planned ahead. First pass: `plan` hands out offsets; second: `at` gives
// memory.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "core/int8_rows.h"
#include "core/tensor.h"

namespace moltide {

class Arena {
 public:
  Arena() = default;
  ~Arena() { std::free(data_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Makes at least `bytes` available; grows, never shrinks; contents are not kept.
  void reserve(int64_t bytes);
  int64_t capacity() const { return capacity_; }
  char* base() const { return data_; }

 private:
  char* data_ = nullptr;
  int64_t capacity_ = 0;
};

// A cursor over an arena: with no base it only counts, so that the same code plans and hands out.
class Cursor {
 public:
  explicit Cursor(char* base = nullptr) : base_(base) {}

  void* bytes(int64_t n) {
    char* result = base_ ? base_ + offset_ : nullptr;
    offset_ += (n + 63) / 64 * 64;
    if (offset_ > peak_) peak_ = offset_;
    return result;
  }
  Tensor tensor(int64_t rows, int64_t cols, DType dtype) {
    return make_tensor(bytes(rows * cols * dtype_bytes(dtype)), rows, cols, dtype);
  }
  Int8Rows int8_rows(int64_t rows, int64_t cols) {
    float* scale = floats(rows);
    const int64_t ld = int8_ld(cols);
    return {static_cast<int8_t*>(bytes(rows * ld)), scale, rows, cols, ld};
  }
  float* floats(int64_t n) { return static_cast<float*>(bytes(n * 4)); }
  int32_t* ints(int64_t n) { return static_cast<int32_t*>(bytes(n * 4)); }

  // Memory handed out after `mark` can be used again after `release`.
  int64_t mark() const { return offset_; }
  void release(int64_t mark) { offset_ = mark; }
  int64_t peak() const { return peak_; }

 private:
  char* base_;
  int64_t offset_ = 0;
  int64_t peak_ = 0;
};

}  // namespace moltide
