#include "contact/contact.h"

#include "contact/contact_args.h"
#include "core/check.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, contact_marginals, const ContactArgs& args, int64_t head)
MOLTIDE_CPU_OP(void, contact_rows, const ContactArgs& args, int64_t block)
MOLTIDE_CPU_OP(int64_t, contact_row_blocks, int64_t size)
MOLTIDE_CPU_OP(void, contact_sigmoid_range, float* logits, int64_t n, float bias)

void contact_accumulate(const float* probs, int64_t heads, int64_t len, int skip_first,
                        int skip_last, const float* weight, float* logits) {
  MOLTIDE_CHECK(skip_first >= 0 && skip_last >= 0 && len - skip_first - skip_last >= 0,
                "contact_accumulate: got length ", len, " with ", skip_first, " + ", skip_last,
                " positions to skip, allowed at most the length");
  const int64_t size = len - skip_first - skip_last;
  if (size == 0 || heads == 0) return;
  const int64_t marginals = heads * size;
  float* scratch = static_cast<float*>(
      thread_scratch(Scratch::op, static_cast<size_t>(2 * marginals) * sizeof(float)));
  const ContactArgs args{probs, heads, len, skip_first, size, weight, scratch, scratch + marginals,
                         logits};
  parallel_for(heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) MOLTIDE_CPU_CALL(contact_marginals, args, h);
  });
  const int64_t blocks = MOLTIDE_CPU_CALL(contact_row_blocks, size);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) MOLTIDE_CPU_CALL(contact_rows, args, b);
  });
}

void contact_sigmoid(float* logits, int64_t n, float bias) {
  constexpr int64_t kGrain = 1 << 14;  // a multiple of every vector's length
  parallel_for((n + kGrain - 1) / kGrain, 1, [&](int64_t begin, int64_t end) {
    const int64_t last = end * kGrain < n ? end * kGrain : n;
    MOLTIDE_CPU_CALL(contact_sigmoid_range, logits + begin * kGrain, last - begin * kGrain, bias);
  });
}

}  // namespace moltide
