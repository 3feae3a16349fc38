#include "train/dataset.h"

namespace moltide {

void MicroBatch::gather(const Dataset& data, const int64_t* order, int64_t n) {
  batch.clear();
  targets.clear();
  censor.clear();
  weights.clear();
  labels.clear();
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = order[i];
    const int64_t begin = data.offsets[row], end = data.offsets[row + 1];
    const SequenceExtras extras{data.coordinates.empty() ? nullptr : data.coordinates.data(),
                                data.token_ids.empty() ? nullptr : data.token_ids.data(),
                                data.pair_ids.empty() ? nullptr : data.pair_ids.data()};
    batch.append(data.tokens.data() + begin, end - begin,
                 extras.from(begin, data.pair_ids.empty() ? 0 : data.pair_starts[row]));
    const int64_t first = (data.per_residue ? begin : row) * data.columns;
    const int64_t last = (data.per_residue ? end : row + 1) * data.columns;
    if (!data.targets.empty())
      targets.insert(targets.end(), data.targets.begin() + first, data.targets.begin() + last);
    if (!data.censor.empty())
      censor.insert(censor.end(), data.censor.begin() + first, data.censor.begin() + last);
    if (data.weights.empty()) continue;
    const auto own = data.weights.begin() + row * data.weight_columns;
    for (int64_t r = 0; r < (data.per_residue ? end - begin : 1); ++r)
      weights.insert(weights.end(), own, own + data.weight_columns);
  }
}

}  // namespace moltide
