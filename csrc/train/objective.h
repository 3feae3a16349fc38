// What a step minimises: chooses the loss, and what its terms weigh in all micro-batches together.
#pragma once
#include <vector>

#include "loss/loss.h"
#include "model/activations.h"
#include "model/head.h"
#include "train/dataset.h"

namespace moltide {

enum class Objective { mse, huber, cross_entropy, bce, ranking, tobit, mlm, mixed };
const char* objective_name(Objective objective);

// Columns of targets that a head of this many outputs is compared with.
int64_t target_columns(Objective objective, int64_t outputs);
// Throws std::invalid_argument where targets, labels, censoring or weights do not suit the
// objective.
void check_dataset(Objective objective, const Dataset& data, int64_t outputs);
// Whether some column's loss has a log_sigma.
bool needs_log_sigma(Objective objective, const std::vector<TermLoss>& column_losses);
// Class labels from float targets (cross_entropy), once a micro-batch is gathered.
void prepare_labels(Objective objective, MicroBatch& micro);
// Ranking compares rows of one micro-batch: pairs across two of them are no terms.
double objective_weight(Objective objective, const Dataset& data, const MicroBatch& micro);
// Loss sum (before scale); writes the gradient into the head's dpred, or the pass's dlogits for
// mlm. `column_losses`: of mixed, one a column.
double objective_loss(Objective objective, const std::vector<TermLoss>& column_losses,
                      const Dataset& data, const MicroBatch& micro, double huber_delta,
                      double scale, const Head* head, const HeadActivations& activations,
                      const PassActivations& pass);

}  // namespace moltide
