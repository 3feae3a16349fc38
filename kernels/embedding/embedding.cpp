#include "embedding/embedding.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "embedding/embedding_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, embedding_fwd_rows, const EmbeddingRows& p, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(void, embedding_bwd_columns, const EmbeddingRows& p, int64_t begin, int64_t end)

namespace {

EmbeddingRows check(const char* op, const int32_t* tokens, const float* scale,
                    const int32_t* position, int64_t position_offset, const Tensor& table,
                    const Tensor& positions, const Tensor& x) {
  expect_f32(op, "x", x, x.rows, x.cols);
  expect_memory(op, "tokens", tokens, x.rows);
  if (table) {
    expect_f32(op, "table", table, table.rows, x.cols);
    for (int64_t t = 0; t < x.rows; ++t)
      MOLTIDE_CHECK(tokens[t] >= 0 && tokens[t] < table.rows, op, ": token ", t, " is ", tokens[t],
                    ", allowed: 0 to ", table.rows - 1);
  }
  if (positions) {
    expect_f32(op, "positions", positions, positions.rows, x.cols);
    expect_memory(op, "position", position, x.rows);
    for (int64_t t = 0; t < x.rows; ++t) {
      const int64_t row = position[t] + position_offset;
      MOLTIDE_CHECK(row >= 0 && row < positions.rows, op, ": position ", position[t], " of token ",
                    t, " is row ", row, " of the learned positions, which have rows 0 to ",
                    positions.rows - 1, " (is the sequence longer than the model's limit?)");
    }
  }
  return {tokens,       scale,   position, position_offset, table.f32(), table.ld, positions.f32(),
          positions.ld, x.f32(), x.ld,     x.rows,          x.cols};
}

}  // namespace

void token_dropout_scale(const int32_t* tokens, const int32_t* cu_seqlens, int64_t batch,
                         int32_t mask_token, float mask_ratio_train, float* scale) {
  MOLTIDE_CHECK(mask_ratio_train >= 0.0f && mask_ratio_train < 1.0f,
                "token_dropout_scale: mask_ratio_train is ", mask_ratio_train, ", allowed: [0, 1)");
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t begin = cu_seqlens[b], end = cu_seqlens[b + 1];
    int64_t masked = 0;
    for (int64_t t = begin; t < end; ++t) masked += tokens[t] == mask_token;
    const double kept =
        static_cast<double>(end - begin - masked) / static_cast<double>(end - begin);
    const float up = static_cast<float>((1.0 - static_cast<double>(mask_ratio_train)) / kept);
    for (int64_t t = begin; t < end; ++t) scale[t] = tokens[t] == mask_token ? 0.0f : up;
  }
}

void embedding_fwd(const int32_t* tokens, const float* scale, const int32_t* position,
                   int64_t position_offset, const Tensor& table, const Tensor& positions,
                   const Tensor& x) {
  MOLTIDE_CHECK(table || x.rows == 0, "embedding_fwd: the table has no memory");
  const EmbeddingRows p =
      check("embedding_fwd", tokens, scale, position, position_offset, table, positions, x);
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t begin, int64_t end) {
    MOLTIDE_CPU_CALL(embedding_fwd_rows, p, begin, end);
  });
}

void embedding_bwd(const int32_t* tokens, const float* scale, const int32_t* position,
                   int64_t position_offset, const Tensor& dx, const Tensor& dtable,
                   const Tensor& dpositions) {
  const EmbeddingRows p =
      check("embedding_bwd", tokens, scale, position, position_offset, dtable, dpositions, dx);
  // Tokens repeat, so a row of the table has many writers: each task owns columns and walks all of
  // T.
  constexpr int64_t kUnit = 64;
  parallel_for((dx.cols + kUnit - 1) / kUnit, row_grain(dx.rows * kUnit),
               [&](int64_t begin, int64_t end) {
                 const int64_t last = end * kUnit < dx.cols ? end * kUnit : dx.cols;
                 MOLTIDE_CPU_CALL(embedding_bwd_columns, p, begin * kUnit, last);
               });
}

}  // namespace moltide
