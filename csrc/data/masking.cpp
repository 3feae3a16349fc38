#include "data/masking.h"

#include <algorithm>

#include "core/philox.h"

namespace moltide {

int64_t mask_residues(const MaskingConfig& config, uint64_t seed, uint64_t stream,
                      PackedBatch& batch, std::vector<int32_t>& labels) {
  labels.assign(batch.tokens.size(), -1);
  int64_t chosen = 0;
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    const int32_t token = batch.tokens[t];
    if (std::find(config.residues.begin(), config.residues.end(), token) == config.residues.end())
      continue;
    const PhiloxBlock draw = philox4x32(seed, t, stream);
    if (philox_uniform(draw.v[0]) >= config.probability) continue;
    labels[t] = token;
    ++chosen;
    const float kind = philox_uniform(draw.v[1]);
    if (kind < config.mask) {
      batch.tokens[t] = config.mask_token;
    } else if (kind < config.mask + config.random) {
      batch.tokens[t] = config.residues[draw.v[2] % config.residues.size()];
    }
  }
  return chosen;
}

}  // namespace moltide
