// Row ops on exactly sized, strided buffers: odd widths, no rows, one row.
#include <vector>

#include "dropout/dropout.h"
#include "embedding/embedding.h"
#include "heap.h"
#include "layernorm/layernorm.h"
#include "mlp_act/mlp_act.h"
#include "pool/pool.h"
#include "residual/residual.h"
#include "rmsnorm/rmsnorm.h"
#include "rope/rope.h"

namespace moltide::test {
namespace {

class SmokeRows : public EachIsa {};

const int64_t kRows[] = {0, 1, 5};
const int64_t kCols[] = {1, 4, 15, 16, 17, 33, 70};

template <class F>
void each_shape(F&& f) {
  for (int64_t rows : kRows)
    for (int64_t cols : kCols) f(rows, cols);
}

TEST_P(SmokeRows, Norms) {
  each_shape([&](int64_t t, int64_t c) {
    const Rows x(t, c, DType::f32, 3), y(t, c, dtype(), 1), dy(t, c, dtype(), 2, 5);
    const Rows dx(t, c, DType::f32, 1), w(1, c), b(1, c), dw(1, c), db(1, c);
    const Rows mean(1, t), rstd(1, t);
    layernorm_fwd(x, w.f32(), b.f32(), 1e-5f, y, nullptr, nullptr);
    layernorm_fwd(x, w.f32(), b.f32(), 1e-5f, y, mean.f32(), rstd.f32());
    y.expect_sound("layernorm y");
    for (bool accumulate : {false, true})
      layernorm_bwd(dy, x, w.f32(), mean.f32(), rstd.f32(), dx, accumulate, dw.f32(), db.f32());
    layernorm_bwd(dy, x, w.f32(), mean.f32(), rstd.f32(), dx, false, nullptr, nullptr);
    for (const Rows* rows : {&dx, &dw, &db, &mean, &rstd}) rows->expect_sound("layernorm");
    const Rows q(t, c, dtype(), 3), dq(t, c, dtype(), 1);
    layernorm_fwd(q, w.f32(), nullptr, 1e-5f, y, mean.f32(), rstd.f32());
    layernorm_fwd(q, w.f32(), nullptr, 1e-5f, q, nullptr, nullptr);
    layernorm_bwd(dy, q, w.f32(), mean.f32(), rstd.f32(), dq, false, dw.f32(), nullptr);
    for (const Rows* rows : {&q, &dq, &dw}) rows->expect_sound("layernorm of queries");
    rmsnorm_fwd(x, w.f32(), 1e-5f, y, rstd.f32());
    y.expect_sound("rmsnorm y");
    for (bool accumulate : {false, true})
      rmsnorm_bwd(dy, x, w.f32(), rstd.f32(), dx, accumulate, dw.f32());
    for (const Rows* rows : {&dx, &dw, &rstd}) rows->expect_sound("rmsnorm");
  });
}

TEST_P(SmokeRows, Activations) {
  each_shape([&](int64_t t, int64_t f) {
    for (auto kind : {Activation::gelu, Activation::swiglu, Activation::relu, Activation::tanh}) {
      const int64_t inputs = kind == Activation::swiglu ? 2 * f : f;
      const Rows u(t, inputs, dtype(), 3), y(t, f, dtype(), 1), dy(t, f, dtype(), 2, 5);
      const Rows du(t, inputs, dtype(), 5);
      activation_fwd(kind, u, y);
      y.expect_sound("y");
      activation_bwd(kind, dy, u, du);
      du.expect_sound("du");
      if (kind != Activation::swiglu) continue;
      const Rows sums(1, t);
      const float beta = 0.7f;
      float dbeta = 0;
      activation_fwd(kind, u, y, &beta);
      activation_bwd(kind, dy, u, du, &beta);
      swiglu_bwd_beta(dy, u, beta, sums.f32(), &dbeta);
      for (const Rows* rows : {&y, &du, &sums}) rows->expect_sound("swiglu with a slope");
    }
  });
}

TEST_P(SmokeRows, ResidualAndDropout) {
  each_shape([&](int64_t t, int64_t c) {
    const Rows x(t, c, DType::f32, 3), a(t, c, dtype(), 1, 2), b(t, c, dtype(), 2, 3);
    residual_add(x, a, 0.5f);
    accumulate(a, x);
    accumulate(x, b);
    copy_cast(x, a);
    copy_cast(a, x);
    const std::vector<int32_t> row(static_cast<size_t>(t), static_cast<int32_t>(t - 1));
    gather_rows(a, row.data(), b);
    dropout(a, b, 0.3f, 5, 7);
    dropout(b, b, 0.0f, 5, 7);
    for (const Rows* rows : {&x, &a, &b}) rows->expect_sound("residual, dropout");
  });
}

TEST_P(SmokeRows, Rope) {
  for (int64_t heads : {1, 3}) {
    for (int64_t dim : {2, 6, 16, 24, 34, 64}) {
      constexpr int64_t kLength = 6;
      const Rows cosines(kLength, dim / 2), sines(kLength, dim / 2);
      rope_table(kLength, dim, 10000.0, cosines.f32(), sines.f32());
      for (int64_t t : kRows) {
        std::vector<int32_t> places;
        for (int64_t i = 0; i < t; ++i) places.push_back(static_cast<int32_t>(kLength - 1 - i));
        const auto position = exactly(places);
        const Rows x(t, heads * dim, dtype(), 3);
        for (bool inverse : {false, true})
          rope(x, position.get(), heads, dim, cosines.f32(), sines.f32(), inverse);
        x.expect_sound("rope");
      }
    }
  }
}

TEST_P(SmokeRows, EmbeddingAndPool) {
  const std::vector<int32_t> ends = {0, 1, 1, 4, 9};
  for (size_t batch : {0, 1, 4}) {
    const auto cu = exactly(std::vector<int32_t>(ends.begin(), ends.begin() + batch + 1));
    const int64_t t = ends[batch], sequences = static_cast<int64_t>(batch);
    std::vector<int32_t> ids, places;
    for (int64_t i = 0; i < t; ++i) {
      ids.push_back(static_cast<int32_t>(i % 5));
      places.push_back(static_cast<int32_t>(i % 7));
    }
    const auto tokens = exactly(ids), position = exactly(places);
    const Rows scale(1, t);
    token_dropout_scale(tokens.get(), cu.get(), sequences, 4, 0.12f, scale.f32());
    for (int64_t c : kCols) {
      const Rows table(5, c, DType::f32, 1), positions(9, c), x(t, c, DType::f32, 3);
      embedding_fwd(tokens.get(), scale.f32(), position.get(), 2, table, positions, x);
      embedding_bwd(tokens.get(), scale.f32(), position.get(), 2, x, table, positions);
      embedding_fwd(tokens.get(), nullptr, nullptr, 0, table, Tensor{}, x);
      embedding_bwd(tokens.get(), nullptr, nullptr, 0, x, table, Tensor{});
      for (Pool pool : {Pool::mean, Pool::cls}) {
        const Rows y(sequences, c, DType::f32, 2), dx(t, c, DType::f32, 1);
        pool_fwd(pool, x, cu.get(), sequences, 1, 1, y);
        pool_bwd(pool, y, cu.get(), sequences, 1, 1, dx);
        y.expect_sound("pool y");
        dx.expect_sound("pool dx");
      }
      for (const Rows* rows : {&table, &positions, &x}) rows->expect_sound("embedding");
    }
  }
}

MOLTIDE_EACH_ISA(SmokeRows);

}  // namespace
}  // namespace moltide::test
