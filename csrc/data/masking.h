// Masked-LM corruption (Devlin et al. 2019): which residues are to be predicted, and what stands
// there.
#pragma once
#include <cstdint>
#include <vector>

#include "data/packer.h"

namespace moltide {

struct MaskingConfig {
  double probability = 0.15;  // share of residues chosen
  double mask = 0.8;          // of these: replaced by the mask token
  double random = 0.1;        // of these: replaced by a random residue; the rest stays as it is
  int32_t mask_token = 32;
  std::vector<int32_t> residues;  // tokens that can be chosen, and that replacements come from
};

// Corrupts batch.tokens in place; labels (T) = the true token where chosen, else -1. Draws depend
// on (seed, stream, packed position) alone. Returns the number of chosen positions.
int64_t mask_residues(const MaskingConfig& config, uint64_t seed, uint64_t stream,
                      PackedBatch& batch, std::vector<int32_t>& labels);

}  // namespace moltide
