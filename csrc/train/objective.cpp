#include "train/objective.h"

#include <cmath>

#include "core/check.h"
#include "loss/loss.h"

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

}  // namespace

const char* objective_name(Objective objective) {
  constexpr const char* kNames[] = {"mse",   "huber", "cross_entropy", "bce", "ranking",
                                    "tobit", "mlm"};
  return kNames[static_cast<int>(objective)];
}

int64_t target_columns(Objective objective, int64_t outputs) {
  if (objective == Objective::mlm) return 0;
  return objective == Objective::cross_entropy ? 1 : outputs;
}

void check_dataset(Objective objective, const Dataset& data, int64_t outputs) {
  const int64_t columns = target_columns(objective, outputs);
  MOLTIDE_CHECK(data.columns == columns, "objective ", objective_name(objective), " with ", outputs,
                " outputs needs ", columns, " target columns, got ", data.columns);
  MOLTIDE_CHECK(
      data.censor.empty() || objective == Objective::tobit || objective == Objective::ranking,
      "censored targets need the objective tobit or ranking, got ", objective_name(objective));
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
    default:
      return loss_weight(target_tensor(data, micro), weights_of(micro));
  }
}

double objective_loss(Objective objective, const Dataset& data, const MicroBatch& micro,
                      double huber_delta, double scale, const Head* head, const HeadActivations& a,
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
    default:
      return tobit(a.pred, target, censor_of(micro), head->log_sigma->value, weights, scale,
                   a.dpred, head->log_sigma->grad);
  }
}

}  // namespace moltide
