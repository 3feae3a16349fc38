#include "embedding_sum/embedding_sum.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "embedding_sum/embedding_sum_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, embedding_sum_fwd_rows, const EmbeddingSumRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, embedding_sum_bwd_columns, const EmbeddingSumRows& p, int64_t begin,
               int64_t end)

namespace {

EmbeddingSumRows check(const char* op, const CategoryIds& ids, float scale, const Tensor& table,
                       const Tensor& x) {
  expect_f32(op, "x", x, x.rows, x.cols);
  expect_f32(op, "table", table, table.rows, x.cols);
  expect_memory(op, "ids", ids.ids, x.rows * ids.count);
  MOLTIDE_CHECK(ids.stride >= ids.count || x.rows <= 1, op, ": rows of ids are ", ids.stride,
                " apart, expected at least ", ids.count);
  for (int64_t t = 0; t < x.rows; ++t)
    for (int64_t f = 0; f < ids.count; ++f) {
      const int16_t id = ids.ids[t * ids.stride + f];
      MOLTIDE_CHECK(id >= -1 && id < table.rows, op, ": category ", f, " of row ", t, " is ", id,
                    ", allowed: -1 to ", table.rows - 1);
    }
  return {ids.ids,  ids.stride, ids.count, scale,  table.f32(),
          table.ld, x.f32(),    x.ld,      x.rows, x.cols};
}

}  // namespace

void embedding_sum_fwd(const CategoryIds& ids, float scale, const Tensor& table, const Tensor& x) {
  const EmbeddingSumRows p = check("embedding_sum_fwd", ids, scale, table, x);
  parallel_for(x.rows, row_grain(x.cols * (ids.count + 1)), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(embedding_sum_fwd_rows, p, begin, end);
  });
}

void embedding_sum_bwd(const CategoryIds& ids, float scale, const Tensor& dx,
                       const Tensor& dtable) {
  const EmbeddingSumRows p = check("embedding_sum_bwd", ids, scale, dtable, dx);
  // Categories repeat, so a row of the table has many writers: each task owns columns.
  constexpr int64_t kUnit = 64;
  parallel_for((dx.cols + kUnit - 1) / kUnit, row_grain(dx.rows * kUnit * ids.count),
               [&](int64_t begin, int64_t end) {
                 const int64_t last = end * kUnit < dx.cols ? end * kUnit : dx.cols;
                 MOLTIDE_CPU_CALL(embedding_sum_bwd_columns, p, begin * kUnit, last);
               });
}

}  // namespace moltide
