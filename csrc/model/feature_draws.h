// Random features of linear attention drawn anew for a training step (Choromanski et al. 2021,
// section 4: it keeps a model from leaning on one draw; MoLFormer was trained so).
#pragma once
#include <cstdint>
#include <vector>

#include "model/config.h"

namespace moltide {

// values = (layers, D, M), a function of the seed, the step's number and the layer; empty where the
// config has no linear attention.
void draw_features(const EncoderConfig& config, uint64_t seed, uint64_t draw,
                   std::vector<float>& values);

}  // namespace moltide
