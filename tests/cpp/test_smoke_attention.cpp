// Attention and the contact head on exactly sized, strided buffers.
#include "attention/attention.h"
#include "contact/contact.h"
#include "heap.h"

namespace moltide::test {
namespace {

class SmokeAttention : public EachIsa {};

void run(DType dtype, const std::vector<int32_t>& ends, int64_t heads, int64_t dim, float dropout) {
  const int64_t t = ends.back(), width = heads * dim;
  const auto cu = exactly(ends);
  AttentionParams params{};
  params.cu_seqlens = cu.get();
  params.batch = static_cast<int64_t>(ends.size()) - 1;
  params.heads = heads;
  params.head_dim = dim;
  params.scale = 0.5f;
  params.dropout = dropout;
  params.seed = 11;
  params.stream = 13;
  const Rows q(t, width, dtype, 3, 1), k(t, width, dtype, 1, 2), v(t, width, dtype, 2, 3);
  const Rows o(t, width, dtype, 5), dout(t, width, dtype, 1, 4), lse(heads, t);
  const Rows dq(t, width, dtype, 2), dk(t, width, dtype, 3), dv(t, width, dtype, 1);
  attention_fwd(params, q, k, v, o, nullptr);
  if (dropout == 0) {
    AttentionParams coarse = params;
    coarse.coarse = true;
    attention_fwd(coarse, q, k, v, o, nullptr);
  }
  attention_fwd(params, q, k, v, o, lse.f32());
  std::unique_ptr<char[]> workspace(
      new char[static_cast<size_t>(attention_bwd_workspace(t, heads))]);
  attention_bwd(params, dout, q, k, v, o, lse.f32(), dq, dk, dv, workspace.get());
  for (const Rows* rows : {&o, &lse, &dq, &dk, &dv}) rows->expect_sound("attention");
}

TEST_P(SmokeAttention, RaggedBatches) {
  const std::vector<std::vector<int32_t>> batches = {{0}, {0, 0}, {0, 1}, {0, 1, 1, 18, 25}};
  for (int64_t dim : {4, 12, 16, 24, 36, 64})
    for (const auto& ends : batches)
      for (float dropout : {0.0f, 0.25f}) run(dtype(), ends, 3, dim, dropout);
  run(dtype(), {0, 70, 203}, 1, 32, 0.0f);
  run(dtype(), {0, 9}, 1, 256, 0.0f);
}

TEST_P(SmokeAttention, ProbabilitiesAndContacts) {
  for (int64_t length : {2, 3, 19, 35}) {
    constexpr int64_t kHeads = 3, kDim = 12;
    const Rows q(length, kHeads * kDim, dtype(), 1), k(length, kHeads * kDim, dtype(), 2, 3);
    const Rows probs(kHeads, length * length), weight(1, kHeads);
    attention_probs(q, k, kHeads, kDim, 0.5f, probs.f32());
    probs.expect_sound("probs");
    const int64_t residues = length - 2;
    const Rows logits(1, residues * residues);
    contact_accumulate(probs.f32(), kHeads, length, 1, 1, weight.f32(), logits.f32());
    contact_sigmoid(logits.f32(), residues * residues, -0.5f);
    logits.expect_sound("contacts");
  }
}

MOLTIDE_EACH_ISA(SmokeAttention);

}  // namespace
}  // namespace moltide::test
