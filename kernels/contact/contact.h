// contact: contact probabilities from attention maps, the head of Rao et al. 2020, "Transformer
// protein language models are unsupervised structure learners", as ESM-2 publishes it:
// p = sigmoid(bias + sum over channels of weight * apc(a + a^T)), channels = layers x heads, with
// a the attention map less its first skip_first and last skip_last rows and columns (<cls>, <eos>)
// and apc(s) = s - rowsum(s) columnsum(s) / sum(s), the average product correction.
// Shapes    probs (H, L, L) f32; weight (H) f32; logits (l, l) f32, l = L - skip_first - skip_last
// Writes    contact_accumulate logits += (call it layer by layer from zeros);
//           contact_sigmoid logits = sigmoid(logits + bias), in place
// Aliasing  none
// Needs     L >= skip_first + skip_last, skips >= 0; l = 0 does nothing
// Memory    O(H * l) beside the arguments (thread_scratch)
// Repeat    bit-identical whatever the thread count; the map is symmetric to the bit
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

namespace moltide {

void contact_accumulate(const float* probs, int64_t heads, int64_t len, int skip_first,
                        int skip_last, const float* weight, float* logits);

void contact_sigmoid(float* logits, int64_t n, float bias);

}  // namespace moltide
