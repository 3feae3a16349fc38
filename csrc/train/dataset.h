// What is trained on, handed over once: tokens of all sequences end to end, and their targets.
#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "data/packer.h"

namespace moltide {

struct Dataset {
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets;  // (N + 1)
  // Each empty where it is not known: (tokens, 3); packer.h's categories
  std::vector<float> coordinates;
  std::vector<int16_t> token_ids, pair_ids;
  std::vector<int64_t> pair_starts = {0};  // (N + 1), sums of squared lengths
  std::vector<float> targets;  // (N, columns), or (tokens, columns) when per_residue; NaN = missing
  std::vector<int8_t> censor;  // like targets, or empty: -1 below, 0 exact, +1 above
  std::vector<float> weights;  // (N, weight_columns), or empty
  int64_t columns = 0;
  int64_t weight_columns = 1;  // 1: a weight a row; `columns`: one a target
  bool per_residue = false;

  int64_t size() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

// One packed batch with the rows of the dataset that belong to it.
struct MicroBatch {
  PackedBatch batch;
  std::vector<float> targets;
  std::vector<int8_t> censor;
  std::vector<float> weights;   // (rows, weight_columns)
  std::vector<int32_t> labels;  // classes, or masked residues; -1 = none

  void gather(const Dataset& data, const int64_t* order, int64_t n);
  int64_t rows(const Dataset& data) const {
    return data.per_residue ? batch.count() : batch.batch();
  }
};

}  // namespace moltide
