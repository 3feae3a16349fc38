// Ops on pairs of tokens on exactly sized, strided buffers.
#include "attention_pair_bias/attention_pair_bias.h"
#include "embedding_sum/embedding_sum.h"
#include "gate/gate.h"
#include "gaussian_basis/gaussian_basis.h"
#include "heap.h"
#include "pair_distance/pair_distance.h"
#include "pair_planes/pair_planes.h"
#include "triangle_product/triangle_product.h"

namespace moltide::test {
namespace {

class SmokePairs : public EachIsa {};

std::vector<int64_t> starts_of(const std::vector<int32_t>& ends) {
  std::vector<int64_t> starts{0};
  for (size_t b = 0; b + 1 < ends.size(); ++b) {
    const int64_t length = ends[b + 1] - ends[b];
    starts.push_back(starts.back() + length * length);
  }
  return starts;
}

const std::vector<std::vector<int32_t>> kBatches = {
    {0}, {0, 0}, {0, 1}, {0, 1, 1, 18, 25}, {0, 33}};

void run(DType dtype, const std::vector<int32_t>& ends, int64_t heads, int64_t dim, float dropout) {
  const int64_t t = ends.back(), width = heads * dim;
  const auto cu = exactly(ends);
  const auto starts = starts_of(ends);
  const auto pair_starts = exactly(starts);
  const int64_t planes = heads * starts.back();
  const PairBiasParams params{cu.get(),
                              pair_starts.get(),
                              static_cast<int64_t>(ends.size()) - 1,
                              heads,
                              dim,
                              0.5f,
                              dropout,
                              11,
                              13};
  const Rows q(t, width, dtype, 3, 1), k(t, width, dtype, 1, 2), v(t, width, dtype, 2, 3);
  const Rows o(t, width, dtype, 5), dout(t, width, dtype, 1, 4), statistics(2, heads * t);
  const Rows dq(t, width, dtype, 2), dk(t, width, dtype, 3), dv(t, width, dtype, 1);
  const Rows bias(1, planes, DType::f32, 0, 5), scores(1, planes), dscores(1, planes);
  const Rows probs(1, planes);
  attention_pair_bias_fwd(params, q, k, v, bias.f32(), o, scores.f32(), nullptr);
  attention_pair_bias_fwd(params, q, k, v, bias.f32(), o, scores.f32(), statistics.f32());
  for (bool accumulate : {false, true})
    attention_pair_bias_bwd(params, dout, q, k, v, scores.f32(), statistics.f32(), dq, dk, dv,
                            dscores.f32(), accumulate);
  for (size_t b = 0; b + 1 < ends.size(); ++b)
    attention_pair_bias_probs(scores.f32() + heads * starts[b], heads, ends[b + 1] - ends[b],
                              probs.f32() + heads * starts[b]);
  for (const Rows* rows : {&o, &statistics, &scores, &dscores, &dq, &dk, &dv, &probs})
    rows->expect_sound("attention_pair_bias");
}

TEST_P(SmokePairs, Attention) {
  for (int64_t dim : {4, 8, 12, 20, 64})
    for (const auto& ends : kBatches)
      for (float dropout : {0.0f, 0.25f}) run(dtype(), ends, 3, dim, dropout);
}

TEST_P(SmokePairs, GaussianBasis) {
  for (int64_t pairs : {0, 1, 63, 65, 130})
    for (int64_t basis : {1, 8, 17, 128}) {
      constexpr int64_t kTypes = 5;
      std::vector<int32_t> types;
      for (int64_t i = 0; i < pairs; ++i) types.push_back(static_cast<int32_t>(i % kTypes));
      const auto edges = exactly(types);
      const Rows distances(1, pairs), mul(1, kTypes), bias(1, kTypes, DType::f32, 0, 2);
      const Rows means(1, basis), stds(1, basis, DType::f32, 0, 3), y(pairs, basis, dtype(), 3);
      const Rows dy(pairs, basis, dtype(), 1, 4), dmul(1, kTypes), dbias(1, kTypes);
      const Rows dmeans(1, basis), dstds(1, basis);
      const GaussianBasis params{mul.f32(), bias.f32(), means.f32(), stds.f32(), kTypes, basis};
      gaussian_basis_fwd(params, distances.f32(), edges.get(), y);
      const auto workspace = aligned_bytes(gaussian_basis_bwd_workspace(pairs, basis, kTypes));
      gaussian_basis_bwd(params, distances.f32(), edges.get(), dy,
                         {dmul.f32(), dbias.f32(), dmeans.f32(), dstds.f32()}, workspace.get());
      for (const Rows* rows : {&y, &dmul, &dbias, &dmeans, &dstds})
        rows->expect_sound("gaussian_basis");
    }
}

TEST_P(SmokePairs, PlanesAndDistances) {
  for (const auto& ends : kBatches)
    for (int64_t heads : {1, 3, 17}) {
      const auto starts = starts_of(ends);
      const auto pair_starts = exactly(starts);
      const auto cu = exactly(ends);
      const int64_t batch = static_cast<int64_t>(ends.size()) - 1, pairs = starts.back();
      const Rows rows(pairs, heads, dtype(), 3), planes(1, heads * pairs);
      pairs_to_planes({pair_starts.get(), batch}, rows, 0, planes.f32());
      planes_to_pairs({pair_starts.get(), batch}, planes.f32(), 0, rows);
      rows.expect_sound("rows");
      planes.expect_sound("planes");
      const Rows coordinates(ends.back(), 3), distances(1, pairs);
      const auto tokens = exactly(std::vector<int32_t>(static_cast<size_t>(ends.back()), 2));
      const auto edges = exactly(std::vector<int32_t>(static_cast<size_t>(pairs), -1));
      const PairTokens t{coordinates.f32(), tokens.get(), cu.get(), pair_starts.get(), batch, 3};
      check_pair_tokens(t);
      pair_distance(t, 0, pairs, distances.f32(), edges.get());
      distances.expect_sound("distances");
      for (int64_t i = 0; i < pairs; ++i) ASSERT_EQ(edges[static_cast<size_t>(i)], 8);
    }
}

TEST_P(SmokePairs, TriangleProducts) {
  for (int64_t channels : {0, 1, 5})
    for (int64_t length : {1, 3, 16, 33}) {
      const int64_t size = channels * length * length;
      const Rows a(1, size), b(1, size, DType::f32, 0, 2), dx(1, size, DType::f32, 0, 3);
      const Rows x(1, size), da(1, size), db(1, size);
      triangle_product_fwd(a.f32(), b.f32(), channels, length, x.f32());
      triangle_product_bwd(dx.f32(), a.f32(), b.f32(), channels, length, da.f32(), db.f32());
      triangle_product_bwd(dx.f32(), a.f32(), b.f32(), channels, length, a.f32(), b.f32());
      for (const Rows* rows : {&x, &da, &db, &a, &b}) rows->expect_sound("triangle_product");
    }
}

TEST_P(SmokePairs, Gates) {
  for (int64_t n : {0, 1, 19})
    for (int64_t cols : {1, 16, 37})
      for (Gate kind : {Gate::sigmoid, Gate::linear}) {
        const Rows x(n, cols, DType::f32, 3), g(n, cols, DType::f32, 1, 2);
        const Rows dy(n, cols, DType::f32, 2, 3), row(1, cols, DType::f32, 0, 4);
        const Rows y(n, cols, dtype(), 5), dx(n, cols, dtype(), 1), dg(n, cols, DType::f32, 4);
        gate_fwd(kind, x, g, 0.5f, y);
        gate_bwd(kind, dy, x, g, 0.5f, dx, dg);
        for (const Rows* rows : {&y, &dx, &dg}) rows->expect_sound("gate");
        Tensor all = row;
        all.rows = n;
        all.ld = 0;
        gate_fwd(kind, x, all, 0.5f, y);
        y.expect_sound("gate by one row");
      }
}

TEST_P(SmokePairs, SumsOfEmbeddings) {
  for (int64_t n : {0, 1, 40})
    for (int64_t cols : {1, 33, 130}) {
      constexpr int64_t kRows = 7, kStride = 5, kCount = 3;
      std::vector<int16_t> values;
      for (int64_t i = 0; i < n * kStride; ++i) values.push_back(static_cast<int16_t>(i % 8 - 1));
      const auto ids = exactly(values);
      const Rows table(kRows, cols, DType::f32, 2), x(n, cols, DType::f32, 1, 2);
      const CategoryIds some{ids.get(), kStride, kCount};
      embedding_sum_fwd(some, 0.5f, table, x);
      x.expect_sound("embedding_sum");
      embedding_sum_bwd(some, 0.5f, x, table);
      table.expect_sound("embedding_sum gradient");
    }
}

MOLTIDE_EACH_ISA(SmokePairs);

}  // namespace
}  // namespace moltide::test
