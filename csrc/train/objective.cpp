#include "train/objective.h"

#include <cmath>

#include <algorithm>

#include "core/check.h"

namespace moltide {
namespace {

Tensor target_tensor(const Dataset& data, const MicroBatch& micro) {
  return f32_tensor(micro.targets.data(), micro.rows(data), data.columns);
}
const int8_t* censor_of(const MicroBatch& micro) {
  return micro.censor.empty() ? nullptr : micro.censor.data();
}
const float* weights_of(const MicroBatch& micro) {
  return micro.weights.empty() ? nullptr : micro.weights.data();
}
// One a term, (rows, columns): those of rows are repeated. Valid until the next call.
const float* term_weights(const Dataset& data, const MicroBatch& micro) {
  if (micro.weights.empty() || data.weight_columns == data.columns) return weights_of(micro);
  static thread_local std::vector<float> spread;  // kept from step to step
  spread.clear();
  for (const float w : micro.weights)
    spread.insert(spread.end(), static_cast<size_t>(data.columns), w);
  return spread.data();
}

}  // namespace

const char* objective_name(Objective objective) {
  constexpr const char* kNames[] = {"mse",     "huber", "cross_entropy", "bce",
                                    "ranking", "tobit", "mlm",           "mixed"};
  return kNames[static_cast<int>(objective)];
}

bool needs_log_sigma(Objective objective, const std::vector<TermLoss>& column_losses) {
  return objective == Objective::tobit ||
         (objective == Objective::mixed &&
          std::count(column_losses.begin(), column_losses.end(), TermLoss::tobit) > 0);
}

int64_t target_columns(Objective objective, int64_t outputs) {
  if (objective == Objective::mlm) return 0;
  return objective == Objective::cross_entropy ? 1 : outputs;
}

void check_dataset(Objective objective, const Dataset& data, int64_t outputs) {
  const int64_t columns = target_columns(objective, outputs);
  MOLTIDE_CHECK(data.columns == columns, "objective ", objective_name(objective), " with ", outputs,
                " outputs needs ", columns, " target columns, got ", data.columns);
  MOLTIDE_CHECK(data.censor.empty() || objective == Objective::tobit ||
                    objective == Objective::ranking || objective == Objective::mixed,
                "censored targets need the objective tobit, ranking or mixed, got ",
                objective_name(objective));
  MOLTIDE_CHECK(data.weight_columns == 1 || objective == Objective::mixed,
                "weights of single targets need the objective mixed, got ",
                objective_name(objective));
  MOLTIDE_CHECK(data.weight_columns == 1 || data.weight_columns == data.columns, "weights have ",
                data.weight_columns, " columns, allowed 1 or those of the targets, ", data.columns);
  if (objective != Objective::cross_entropy) return;
  for (size_t i = 0; i < data.targets.size(); ++i) {
    const float v = data.targets[i];
    MOLTIDE_CHECK(
        std::isnan(v) || (v == std::floor(v) && v >= 0 && v < static_cast<float>(outputs)),
        "class ", v, " in target row ", i, ", allowed 0 .. ", outputs - 1);
  }
}

void prepare_labels(Objective objective, MicroBatch& micro) {
  if (objective != Objective::cross_entropy) return;
  micro.labels.resize(micro.targets.size());
  for (size_t i = 0; i < micro.targets.size(); ++i)
    micro.labels[i] = std::isnan(micro.targets[i]) ? -1 : static_cast<int32_t>(micro.targets[i]);
}

double objective_weight(Objective objective, const Dataset& data, const MicroBatch& micro) {
  switch (objective) {
    case Objective::mlm:
    case Objective::cross_entropy:
      return loss_weight(micro.labels.data(), static_cast<int64_t>(micro.labels.size()),
                         objective == Objective::mlm ? nullptr : weights_of(micro));
    case Objective::ranking:
      return ranking_weight(target_tensor(data, micro), censor_of(micro), weights_of(micro));
    case Objective::mixed:
      if (data.weight_columns > 1)
        return term_weight(target_tensor(data, micro), weights_of(micro));
      [[fallthrough]];
    default:
      return loss_weight(target_tensor(data, micro), weights_of(micro));
  }
}

double objective_loss(Objective objective, const std::vector<TermLoss>& column_losses,
                      const Dataset& data, const MicroBatch& micro, double huber_delta,
                      double scale, const Head* head, const HeadActivations& a,
                      const PassActivations& pass) {
  if (objective == Objective::mlm)
    return cross_entropy(pass.logits, micro.labels.data(), nullptr, scale, pass.dlogits);
  if (objective == Objective::cross_entropy)
    return cross_entropy(a.pred, micro.labels.data(), weights_of(micro), scale, a.dpred);
  const Tensor target = target_tensor(data, micro);
  const float* weights = weights_of(micro);
  switch (objective) {
    case Objective::mse:
      return mse(a.pred, target, weights, scale, a.dpred);
    case Objective::huber:
      return huber(a.pred, target, weights, huber_delta, scale, a.dpred);
    case Objective::bce:
      return bce(a.pred, target, weights, scale, a.dpred);
    case Objective::ranking:
      return ranking(a.pred, target, censor_of(micro), weights, scale, a.dpred);
    case Objective::mixed: {
      const Param* log_sigma = head->log_sigma;
      return mixed(a.pred, target, censor_of(micro), column_losses.data(), huber_delta,
                   log_sigma ? log_sigma->value : nullptr, term_weights(data, micro), scale,
                   a.dpred, log_sigma ? log_sigma->grad : nullptr);
    }
    default:
      return tobit(a.pred, target, censor_of(micro), head->log_sigma->value, weights, scale,
                   a.dpred, head->log_sigma->grad);
  }
}

}  // namespace moltide
