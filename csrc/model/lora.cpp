#include "model/lora.h"

#include <cmath>

#include "core/philox.h"

namespace moltide {

const char* projection_name(Projection p) {
  constexpr const char* kNames[kProjections] = {"attn.q", "attn.k",   "attn.v",  "attn.out",
                                                "mlp.up", "mlp.down", "mlp.gate"};
  return kNames[static_cast<int>(p)];
}

Linear& projection(LayerWeights& l, Projection p) {
  Linear* all[kProjections] = {&l.q, &l.k, &l.v, &l.out, &l.up, &l.down, &l.gate};
  return *all[static_cast<int>(p)];
}

Adapter::Adapter(const EncoderConfig& config, EncoderWeights& weights, std::string adapter_name,
                 int64_t r, double a, double p, const std::vector<std::string>& wanted,
                 uint64_t seed)
    : name(std::move(adapter_name)),
      rank(r),
      alpha(a),
      dropout(p),
      scale(static_cast<float>(a / static_cast<double>(r))),
      targets(wanted) {
  MOLTIDE_CHECK(rank >= 1 && rank <= config.width, "adapter '", name, "': rank = ", rank,
                ", allowed 1 .. ", config.width);
  MOLTIDE_CHECK(dropout >= 0 && dropout < 1, "adapter '", name, "': dropout = ", dropout,
                ", allowed [0, 1)");
  MOLTIDE_CHECK(std::isfinite(alpha), "adapter '", name, "': alpha is not finite");
  MOLTIDE_CHECK(!targets.empty(), "adapter '", name, "': no target projection named");
  layers.resize(config.layers);
  for (const std::string& target : targets) {
    int found = -1;
    std::string allowed;
    for (int i = 0; i < kProjections; ++i) {
      const auto candidate = static_cast<Projection>(i);
      if (!projection(weights.layers[0], candidate).weight) continue;
      if (target == projection_name(candidate)) found = i;
      allowed += std::string(allowed.empty() ? "" : ", ") + projection_name(candidate);
    }
    MOLTIDE_CHECK(found >= 0, "adapter '", name, "': target '", target, "', allowed ", allowed);
    for (int64_t layer = 0; layer < config.layers; ++layer) {
      Linear& base = projection(weights.layers[layer], static_cast<Projection>(found));
      LoraPair& lora = layers[layer][found];
      const std::string at =
          "adapters." + name + ".layers." + std::to_string(layer) + "." + target + ".";
      lora.a = table.add(at + "lora_a", {rank, base.in()}, true);
      lora.b = table.add(at + "lora_b", {base.out(), rank}, true);
    }
  }
  table.allocate();
  // A uniform in +-1/sqrt(in) (Kaiming with a = sqrt(5), the published initialisation); B zero.
  uint64_t index = 0;
  for (auto& layer : layers) {
    for (LoraPair& lora : layer) {
      ++index;
      if (!lora.a) continue;
      const float bound = 1.0f / std::sqrt(static_cast<float>(lora.a->shape[1]));
      const uint64_t stream =
          random_stream(index, 0, static_cast<uint32_t>(RandomSite::initialisation));
      for (int64_t i = 0; i < lora.a->size(); ++i) {
        const PhiloxBlock block = philox4x32(seed, static_cast<uint64_t>(i / 4), stream);
        lora.a->value[i] = bound * (2.0f * philox_uniform(block.v[i % 4]) - 1.0f);
      }
    }
  }
}

void merge(Adapter& adapter, EncoderWeights& weights) {
  // All of them first: a file that cannot be read must not leave half a merge.
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer)
    for (int i = 0; i < kProjections; ++i)
      if (adapter.pair(static_cast<int64_t>(layer), static_cast<Projection>(i)))
        projection(weights.layers[layer], static_cast<Projection>(i)).weight->resident();
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (int i = 0; i < kProjections; ++i) {
      LoraPair* lora = adapter.pair(static_cast<int64_t>(layer), static_cast<Projection>(i));
      if (!lora) continue;
      Param* w = projection(weights.layers[layer], static_cast<Projection>(i)).weight;
      // dw (out, in) += scale * B (as dy^T) A (as x): the weight-gradient product does just this.
      AlignedBytes transposed = allocate_aligned(lora->b->size() * 4);
      float* bt = reinterpret_cast<float*>(transposed.get());
      const int64_t out = lora->b->shape[0], r = adapter.rank;
      for (int64_t n = 0; n < out; ++n)
        for (int64_t j = 0; j < r; ++j) bt[j * out + n] = lora->b->value[n * r + j];
      matmul_dw(f32_tensor(bt, r, out), f32_tensor(lora->a->value, r, w->shape[1]),
                f32_tensor(w->value, w->shape[0], w->shape[1]), nullptr, adapter.scale);
      ++w->version;
    }
  }
}

}  // namespace moltide
