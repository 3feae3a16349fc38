// Linear attention on exactly sized, strided buffers.
#include "heap.h"
#include "linear_attention/linear_attention.h"
#include "linear_attention/random_features.h"

namespace moltide::test {
namespace {

class SmokeLinearAttention : public EachIsa {};

void run(DType dtype, const std::vector<int32_t>& ends, int64_t heads, int64_t dim,
         int64_t features) {
  const int64_t t = ends.back(), width = heads * dim;
  const auto cu = exactly(ends);
  const LinearAttentionParams params{
      cu.get(), static_cast<int64_t>(ends.size()) - 1, heads, dim, features, 1e-6f};
  const Rows q(t, width, dtype, 3, 1), k(t, width, dtype, 1, 2), v(t, width, dtype, 2, 3);
  const Rows o(t, width, dtype, 5), dout(t, width, dtype, 1, 4), w(dim, features);
  const Rows dq(t, width, dtype, 2), dk(t, width, dtype, 3), dv(t, width, dtype, 1);
  draw_orthogonal_features(7, 1, dim, features, w.f32());
  linear_attention_fwd(params, q, k, v, w.f32(), o);
  linear_attention_bwd(params, dout, q, k, v, w.f32(), dq, dk, dv);
  const Rows probs(heads, t * t);
  linear_attention_probs(q, k, w.f32(), heads, dim, features, 1e-6f, probs.f32());
  probs.expect_sound("probs");
  for (const Rows* rows : {&o, &w, &dq, &dk, &dv}) rows->expect_sound("linear attention");
}

TEST_P(SmokeLinearAttention, RaggedBatches) {
  const std::vector<std::vector<int32_t>> batches = {{0}, {0, 0}, {0, 1}, {0, 1, 1, 18, 25}};
  for (int64_t dim : {4, 12, 16, 24, 64})
    for (const auto& ends : batches)
      for (int64_t features : {1, 17, 32}) run(dtype(), ends, 3, dim, features);
  run(dtype(), {0, 70, 340}, 1, 32, 32);
  run(dtype(), {0, 9}, 1, 256, 256);
}

MOLTIDE_EACH_ISA(SmokeLinearAttention);

}  // namespace
}  // namespace moltide::test
