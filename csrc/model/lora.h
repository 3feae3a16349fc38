// LoRA (Hu et al. 2022, arXiv:2106.09685): y = x W^T + alpha/rank * dropout(x) A^T B^T on named
// projections.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "model/weights.h"

namespace moltide {

enum class Projection { q, k, v, out, up, down, gate };
constexpr int kProjections = 7;
const char* projection_name(Projection p);  // "attn.q" ...

struct LoraPair {
  Param* a = nullptr;  // (rank, in)
  Param* b = nullptr;  // (out, rank)
  Packed a_forward, b_forward, a_backward, b_backward;
};

struct Adapter {
  // Throws std::invalid_argument for a target the encoder lacks, a rank or dropout out of range.
  Adapter(const EncoderConfig& config, EncoderWeights& weights, std::string name, int64_t rank,
          double alpha, double dropout, const std::vector<std::string>& targets, uint64_t seed);

  LoraPair* pair(int64_t layer, Projection p) {
    LoraPair& found = layers[layer][static_cast<int>(p)];
    return found.a ? &found : nullptr;
  }

  std::string name;
  int64_t rank;
  double alpha;
  double dropout;
  float scale;
  std::vector<std::string> targets;
  ParamTable table;
  std::deque<std::array<LoraPair, kProjections>> layers;
};

Linear& projection(LayerWeights& layer, Projection p);
// W += scale * B A for every pair: the merged model computes what base + adapter computed.
void merge(Adapter& adapter, EncoderWeights& weights);

}  // namespace moltide
