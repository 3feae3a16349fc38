// Tensor: a non-owning view of rows x cols elements, rows `ld` elements apart.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct Tensor {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;
  DType dtype = DType::f32;
  Device device = Device::cpu;

  explicit operator bool() const { return data != nullptr; }

  template <class T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return static_cast<float*>(data); }

  void* at(int64_t row, int64_t col = 0) const {
    return static_cast<char*>(data) + (row * ld + col) * dtype_bytes(dtype);
  }
  // Rows [begin, end) and columns [first, first + count) of the same storage.
  Tensor slice_rows(int64_t begin, int64_t end) const {
    return {at(begin), end - begin, cols, ld, dtype, device};
  }
  Tensor slice_cols(int64_t first, int64_t count) const {
    return {at(0, first), rows, count, ld, dtype, device};
  }
};

inline Tensor make_tensor(void* data, int64_t rows, int64_t cols, DType dtype) {
  return {data, rows, cols, cols, dtype, Device::cpu};
}
inline Tensor f32_tensor(const float* data, int64_t rows, int64_t cols) {
  return make_tensor(const_cast<float*>(data), rows, cols, DType::f32);
}

}  // namespace moltide
