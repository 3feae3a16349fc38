// Losses, AdamW and clipping on exactly sized buffers.
#include "adamw/adamw.h"
#include "heap.h"
#include "loss/loss.h"
#include "norm_clip/norm_clip.h"

namespace moltide::test {
namespace {

class SmokeLoss : public EachIsa {};

TEST_P(SmokeLoss, CrossEntropy) {
  for (int64_t n : {0, 1, 3}) {
    for (int64_t classes : {1, 4, 15, 16, 17, 33, 64}) {
      const auto label = exactly<int32_t>({static_cast<int32_t>(classes - 1), -1, 0});
      const auto weight = exactly<float>({0.5f, 1.0f, 2.0f});
      const Rows logits(n, classes, DType::f32, 3), d(n, classes, dtype(), 5);
      const double sum = cross_entropy(logits, label.get(), weight.get(), 0.5, d);
      d.expect_sound("dlogits");
      EXPECT_EQ(cross_entropy(logits, label.get(), weight.get(), 0.5, Tensor{}), sum);
      if (dtype() != DType::f32) continue;
      const Rows separate(n, classes);
      cross_entropy(logits, label.get(), weight.get(), 0.5, separate);
      cross_entropy(logits, label.get(), weight.get(), 0.5, logits);  // in place
      logits.expect_sound("in place");
      for (int64_t i = 0; i < n * classes; ++i)
        ASSERT_EQ(logits.get(i / classes * (classes + 3) + i % classes), separate.get(i));
    }
  }
}

TEST_P(SmokeLoss, PointwiseRankingTobit) {
  for (int64_t n : {0, 1, 2, 9}) {
    for (int64_t k : {1, 3}) {
      const Rows pred(n, k, DType::f32, 2, 1), target(n, k, DType::f32, 1, 2),
          d(n, k, DType::f32, 4);
      const Rows log_sigma(1, k), dlog_sigma(1, k);
      std::vector<int8_t> kinds;
      for (int64_t i = 0; i < n * k; ++i) kinds.push_back(static_cast<int8_t>(i % 3 - 1));
      const auto censor = exactly(kinds);
      mse(pred, target, nullptr, 1.0, d);
      d.expect_sound("mse");
      huber(pred, target, nullptr, 0.5, 1.0, d);
      d.expect_sound("huber");
      ranking(pred, target, censor.get(), nullptr, 1.0, d);
      d.expect_sound("ranking");
      tobit(pred, target, censor.get(), log_sigma.f32(), nullptr, 1.0, d, dlog_sigma.f32());
      d.expect_sound("tobit");
      dlog_sigma.expect_sound("dlog_sigma");
      const Rows weight(n, k, DType::f32, 0, 3);
      for (int64_t i = 0; i < n * k; ++i) weight.f32()[i] = std::fabs(weight.f32()[i]);
      const auto column = exactly(std::vector<TermLoss>(static_cast<size_t>(k), TermLoss::tobit));
      mixed(pred, target, censor.get(), column.get(), 1.0, log_sigma.f32(), weight.f32(), 1.0, d,
            dlog_sigma.f32());
      d.expect_sound("mixed");
      dlog_sigma.expect_sound("dlog_sigma of mixed");
      EXPECT_EQ(target_count(target), n * k);
      EXPECT_LE(ranking_pairs(target, censor.get()), k * n * (n - 1) / 2);
      mse(pred, target, nullptr, 1.0, pred);  // in place
      pred.expect_sound("in place");
    }
  }
}

TEST_P(SmokeLoss, AdamwAndNorm) {
  for (int64_t n : {0, 1, 7, 16, 17, 70000}) {
    const Rows w(1, n), g(1, n, DType::f32, 0, 2), m(1, n, DType::f32, 0, 3), v(1, n);
    for (int64_t i = 0; i < n; ++i) v.f32()[i] = std::fabs(v.f32()[i]);
    adamw(w.f32(), g.f32(), m.f32(), v.f32(), n, 1e-3f, 0.9f, 0.99f, 1e-8f, 0.1f, 3, 0.5f);
    for (const Rows* rows : {&w, &m, &v}) rows->expect_sound("adamw");
    EXPECT_TRUE(std::isfinite(sum_squares(g.f32(), n)));
  }
}

MOLTIDE_EACH_ISA(SmokeLoss);

}  // namespace
}  // namespace moltide::test
