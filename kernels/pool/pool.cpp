#include "pool/pool.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, pool_fwd_columns, const PoolRows& p, int64_t b, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, pool_bwd_rows, const PoolRows& p, int64_t b)

namespace {

void check(const char* op, const Tensor& packed, const char* packed_name, const Tensor& pooled,
           const char* pooled_name, const int32_t* cu_seqlens, int64_t batch, int skip_first,
           int skip_last) {
  expect_f32(op, packed_name, packed, packed.rows, packed.cols);
  expect_f32(op, pooled_name, pooled, batch, packed.cols);
  MOLTIDE_CHECK(skip_first >= 0 && skip_last >= 0, op, ": skips are ", skip_first, " and ",
                skip_last, ", allowed: 0 or above");
  const int64_t ends = batch > 0 ? cu_seqlens[batch] : 0;
  MOLTIDE_CHECK(ends == packed.rows, op, ": ", packed_name, " has ", packed.rows,
                " rows, cu_seqlens ends at ", ends);
}

}  // namespace

void pool_fwd(Pool pool, const Tensor& x, const int32_t* cu_seqlens, int64_t batch, int skip_first,
              int skip_last, const Tensor& y) {
  check("pool_fwd", x, "x", y, "y", cu_seqlens, batch, skip_first, skip_last);
  if (x.cols == 0) return;
  const PoolRows p{pool, x.f32(), x.ld, x.cols, cu_seqlens, skip_first, skip_last, y.f32(), y.ld};
  // A long protein alone is still work for every thread: tasks are (sequence, group of columns).
  constexpr int64_t kUnit = 64;
  const int64_t units = (x.cols + kUnit - 1) / kUnit;
  const int64_t rows_each = batch > 0 ? x.rows / batch : 0;
  parallel_for(batch * units, row_grain(rows_each * kUnit), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % units * kUnit;
      const int64_t last = first + kUnit < p.cols ? first + kUnit : p.cols;
      MOLTIDE_CPU_CALL(pool_fwd_columns, p, task / units, first, last);
    }
  });
}

void pool_bwd(Pool pool, const Tensor& dy, const int32_t* cu_seqlens, int64_t batch, int skip_first,
              int skip_last, const Tensor& dx) {
  check("pool_bwd", dx, "dx", dy, "dy", cu_seqlens, batch, skip_first, skip_last);
  const PoolRows p{pool,       dx.f32(),  dx.ld,    dx.cols, cu_seqlens,
                   skip_first, skip_last, dy.f32(), dy.ld};
  const int64_t rows_each = batch > 0 ? dx.rows / batch : 0;
  parallel_for(batch, row_grain(rows_each * dx.cols), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) MOLTIDE_CPU_CALL(pool_bwd_rows, p, b);
  });
}

}  // namespace moltide
