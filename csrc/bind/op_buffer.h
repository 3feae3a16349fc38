// Matrices for the op tests: NumPy float32 in and out, float32 or bf16 within, rows `pad` elements
// further apart than they are long. What lies between rows and after the last one is guarded.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "core/check.h"
#include "core/tensor.h"

namespace moltide {

using Floats = pybind11::array_t<float, pybind11::array::c_style>;
using Ints = pybind11::array_t<int32_t, pybind11::array::c_style>;

// Of an op: no int8.
inline DType op_dtype(const std::string& name) {
  MOLTIDE_CHECK(name == "float32" || name == "bf16", "dtype: got '", name,
                "', allowed: float32, bf16");
  return name == "bf16" ? DType::bf16 : DType::f32;
}

class OpBuffer {
 public:
  OpBuffer(int64_t rows, int64_t cols, DType dtype, int64_t pad)
      : rows_(rows),
        cols_(cols),
        ld_(cols + pad),
        dtype_(dtype),
        storage_(static_cast<size_t>((rows * ld_ + kGuard) * dtype_bytes(dtype)), kGuardByte) {}

  OpBuffer(const Floats& values, DType dtype, int64_t pad)
      : OpBuffer(rows_of(values), values.shape(1), dtype, pad) {
    const float* from = values.data();
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c) {
        const float v = from[r * cols_ + c];
        if (dtype_ == DType::f32)
          *static_cast<float*>(tensor().at(r, c)) = v;
        else
          *static_cast<bf16*>(tensor().at(r, c)) = float_to_bf16(v);
      }
  }

  Tensor tensor() { return {storage_.data(), rows_, cols_, ld_, dtype_, Device::cpu}; }

  // The values as float32; throws when the op wrote outside the matrix.
  Floats numpy() {
    Floats out({rows_, cols_});
    float* to = out.mutable_data();
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        const void* at = tensor().at(r, c);
        to[r * cols_ + c] = dtype_ == DType::f32 ? *static_cast<const float*>(at)
                                                 : bf16_to_float(*static_cast<const bf16*>(at));
      }
      check_guard(r * ld_ + cols_, (r + 1) * ld_);
    }
    check_guard(rows_ * ld_, rows_ * ld_ + kGuard);
    return out;
  }

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr unsigned char kGuardByte = 0xff;  // NaN in both types

  static int64_t rows_of(const Floats& values) {
    MOLTIDE_CHECK(values.ndim() == 2, "expected a matrix, got ", values.ndim(), " dimensions");
    return values.shape(0);
  }

  void check_guard(int64_t begin, int64_t end) const {
    const int64_t bytes = dtype_bytes(dtype_);
    for (int64_t i = begin * bytes; i < end * bytes; ++i)
      if (storage_[static_cast<size_t>(i)] != kGuardByte)
        throw std::runtime_error(concat("the op wrote at element ", i / bytes, " of a matrix of ",
                                        rows_, " rows ", ld_, " elements apart, ", cols_, " long"));
  }

  int64_t rows_, cols_, ld_;
  DType dtype_;
  std::vector<unsigned char> storage_;
};

}  // namespace moltide
