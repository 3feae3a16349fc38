// loss: what training minimises, one value and one gradient in a pass
// Shapes    pred target dpred (n, k) f32; weight (n) f32 or null (all ones); censor (n, k) int8,
//           contiguous, or null (all exact): -1 the true value is below target, 0 exact, +1 above;
//           cross_entropy: logits (n, V) f32, dlogits (n, V) f32 or bf16, label (n) int32 with
//           -1 for none
// Returns   the weighted SUM of the terms, in double, before `scale`
// Writes    dpred = gradient of scale * sum; an empty dpred (no data) is not written: value alone;
//           dlog_sigma += (micro-batches accumulate)
// Missing   a NaN target (a label of -1) is no term: adds 0, its gradient is 0
// Scale     loss_weight (ranking_weight for pairs, term_weight for mixed) sums what the terms
// weigh:
//           with scale = 1 / total over all micro-batches, gradients are those of the weighted mean
// Aliasing  dpred may be pred for mse, huber, bce, tobit, mixed and (f32) cross_entropy; never for
//           ranking
// Needs     targets finite or NaN; weights finite and >= 0 (0: no gradient); bce targets in
//           [0, 1]; labels in [-1, V); huber delta > 0; else refused with row and value
// Repeat    same bits for any thread count; cross_entropy: a row's gradient is the same bits
//           whatever n is; the others are computed in double, the same bits on every ISA
// Error     tests/tolerances.py
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace moltide {

// Number of targets that are not NaN.
int64_t target_count(const Tensor& target);
// Sum over the terms present of their row's weight; with no weights, the number of terms.
double loss_weight(const Tensor& target, const float* weight);
double loss_weight(const int32_t* label, int64_t n, const float* weight);
// Ranking's terms are pairs of one column: their number, and the sum over them of w_i * w_j.
int64_t ranking_pairs(const Tensor& target, const int8_t* censor);
double ranking_weight(const Tensor& target, const int8_t* censor, const float* weight);

// (pred - target)^2, as torch.nn.MSELoss(reduction="sum").
double mse(const Tensor& pred, const Tensor& target, const float* weight, double scale,
           const Tensor& dpred);

// d^2 / 2 within delta of the target, delta * (|d| - delta / 2) outside (Huber 1964), as
// torch.nn.HuberLoss: near the target half of mse.
double huber(const Tensor& pred, const Tensor& target, const float* weight, double delta,
             double scale, const Tensor& dpred);

// Binary cross-entropy of logits; targets are probabilities, usually 0 and 1.
double bce(const Tensor& logits, const Tensor& target, const float* weight, double scale,
           const Tensor& dlogits);

// -log softmax(logits)[label] per row: masked residues or classes.
double cross_entropy(const Tensor& logits, const int32_t* label, const float* weight, double scale,
                     const Tensor& dlogits);

// Pairwise logistic, log(1 + exp(-(pred_i - pred_j))) for every pair of rows of which i is known
// to lie above j (RankNet, Burges et al. 2005); a pair weighs w_i * w_j. Known order: exact values
// that differ; "> a" above an exact b or "< b" where a >= b; an exact a above "< b" where a >= b.
// O(n^2 k) time; pairs are those of the rows given, so hand over a whole batch.
double ranking(const Tensor& pred, const Tensor& target, const int8_t* censor, const float* weight,
               double scale, const Tensor& dpred);

// Negative log-likelihood of a Gaussian of mean pred and standard deviation exp(log_sigma[column])
// censored at target (Tobit 1958): density where exact, log Phi of the tail where censored, with
// log Phi and its derivative accurate to 1e-14 relative at any depth of the tail.
// log_sigma, dlog_sigma (k) f32; dlog_sigma may be null.
double tobit(const Tensor& pred, const Tensor& target, const int8_t* censor, const float* log_sigma,
             const float* weight, double scale, const Tensor& dpred, float* dlog_sigma);

// What a column of `mixed` is compared by.
enum class TermLoss : int8_t { mse, huber, bce, tobit };

// Columns of several kinds side by side, each by the loss of that name: `column` (k). Every term
// has a weight of its own: weight (n, k) f32 contiguous, or null. log_sigma is read, and dlog_sigma
// written, in columns of tobit alone; both may be null where there is none.
double mixed(const Tensor& pred, const Tensor& target, const int8_t* censor, const TermLoss* column,
             double huber_delta, const float* log_sigma, const float* weight, double scale,
             const Tensor& dpred, float* dlog_sigma);
// Sum over the terms present of their own weight (n, k).
double term_weight(const Tensor& target, const float* weight);

// log Phi(z) of the standard normal, and into *ratio its derivative phi(z) / Phi(z).
double log_normal_cdf(double z, double* ratio);

}  // namespace moltide
