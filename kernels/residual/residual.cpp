#include "residual/residual.h"

#include <cstring>

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "residual/residual_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, add_rows, const RowPair& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, copy_rows, const RowPair& p, int64_t begin, int64_t end)

namespace {

RowPair row_pair(const char* op, const Tensor& from, const Tensor& to, float scale) {
  expect_shape(op, "source", from, from.rows, from.cols);
  expect_shape(op, "destination", to, from.rows, from.cols);
  return {from.data, from.ld, from.dtype, to.data, to.ld, to.dtype, from.cols, scale};
}

void add(const RowPair& p, int64_t rows) {
  parallel_for(rows, row_grain(p.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(add_rows, p, begin, end); });
}

}  // namespace

void residual_add(const Tensor& x, const Tensor& branch, float scale) {
  expect_dtype("residual_add", "x", x, DType::f32);
  add(row_pair("residual_add", branch, x, scale), x.rows);
}

void accumulate(const Tensor& x, const Tensor& y) {
  add(row_pair("accumulate", x, y, 1.0f), x.rows);
}

void copy_cast(const Tensor& from, const Tensor& to) {
  const RowPair p = row_pair("copy_cast", from, to, 1.0f);
  parallel_for(from.rows, row_grain(from.cols),
               [&](int64_t begin, int64_t end) { MOLTIDE_CPU_CALL(copy_rows, p, begin, end); });
}

void gather_rows(const Tensor& from, const int32_t* row, const Tensor& to) {
  constexpr const char* kOp = "gather_rows";
  expect_shape(kOp, "source", from, from.rows, to.cols);
  expect_shape(kOp, "destination", to, to.rows, to.cols);
  expect_dtype(kOp, "destination", to, from.dtype);
  expect_memory(kOp, "row", row, to.rows);
  for (int64_t t = 0; t < to.rows; ++t)
    MOLTIDE_CHECK(row[t] >= 0 && row[t] < from.rows, kOp, ": row ", row[t], " for ", t,
                  ", allowed: 0 to ", from.rows - 1);
  const size_t bytes = static_cast<size_t>(to.cols * dtype_bytes(to.dtype));
  parallel_for(to.rows, row_grain(to.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) std::memcpy(to.at(t), from.at(row[t]), bytes);
  });
}

}  // namespace moltide
