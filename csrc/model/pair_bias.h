// The bias of the first layer's attention from the distances between tokens: a Gaussian basis of
// each pair's distance, seen through its edge type, and an MLP to one value a head (Uni-Mol: Zhou
// et al., ICLR 2023). Later layers' bias is the scores of the layer before.
#pragma once
#include "model/linear.h"

namespace moltide {

// Counts and hands out what is below; nothing for other kinds of attention.
PairActivations plan_pairs(const EncoderConfig& config, const PassShape& shape, Cursor& cursor);

// Throws std::invalid_argument where the batch lacks what the model needs of pairs.
void check_pairs(const PassContext& pass);

// p.pairs.planes of the first layer = the bias.
void pair_bias_forward(const PassContext& pass, const PairActivations& p);

// Whether any of its parameters is trained.
bool pair_bias_trained(const EncoderWeights& weights);

// p.dplanes is the gradient of the bias; parameter gradients +=.
void pair_bias_backward(const PassContext& pass, const PairActivations& p);

}  // namespace moltide
