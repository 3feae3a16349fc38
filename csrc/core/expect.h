// What an op says of a tensor it cannot take: one sentence with the op, the name, what came and
// what is needed. std::invalid_argument, ValueError in Python.
#pragma once
#include <string>

#include "core/check.h"
#include "core/int8_rows.h"
#include "core/tensor.h"

namespace moltide {

inline std::string describe(const Tensor& t) {
  return concat(dtype_name(t.dtype), " (", t.rows, ", ", t.cols, ")");
}

// float32 or bf16 of this shape, with memory behind it and rows that do not overlap.
inline void expect_shape(const char* op, const char* name, const Tensor& t, int64_t rows,
                         int64_t cols) {
  MOLTIDE_CHECK(t.rows == rows && t.cols == cols, op, ": ", name, " is ", describe(t),
                ", expected (", rows, ", ", cols, ")");
  MOLTIDE_CHECK(t.data || rows == 0 || cols == 0, op, ": ", name, " of shape (", rows, ", ", cols,
                ") has no memory");
  MOLTIDE_CHECK(t.ld >= t.cols || rows <= 1, op, ": ", name, " has rows ", t.ld,
                " elements apart, expected at least ", t.cols);
}

inline void expect_dtype(const char* op, const char* name, const Tensor& t, DType dtype) {
  MOLTIDE_CHECK(t.dtype == dtype, op, ": ", name, " is ", describe(t), ", expected ",
                dtype_name(dtype));
}

inline void expect_f32(const char* op, const char* name, const Tensor& t, int64_t rows,
                       int64_t cols) {
  expect_dtype(op, name, t, DType::f32);
  expect_shape(op, name, t, rows, cols);
}

// Memory behind the codes and scales, and rows a multiple of 64 codes apart.
inline void expect_int8(const char* op, const char* name, const Int8Rows& q) {
  MOLTIDE_CHECK((q.data && q.scale) || q.rows == 0, op, ": ", name, " of shape (", q.rows, ", ",
                q.cols, ") has no memory");
  MOLTIDE_CHECK(q.ld >= q.cols && q.ld % 64 == 0, op, ": ", name, " has rows ", q.ld,
                " codes apart, expected a multiple of 64, at least ", q.cols);
}

inline void expect_memory(const char* op, const char* name, const void* data, int64_t count) {
  MOLTIDE_CHECK(data || count == 0, op, ": ", name, " of ", count, " elements has no memory");
}

}  // namespace moltide
