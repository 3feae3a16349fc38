#include "model/feature_draws.h"

#include "core/parallel.h"
#include "core/philox.h"
#include "linear_attention/random_features.h"

namespace moltide {

void draw_features(const EncoderConfig& c, uint64_t seed, uint64_t draw,
                   std::vector<float>& values) {
  if (c.attention != AttentionKind::linear) return;
  const int64_t size = c.head_dim * c.features;
  values.resize(static_cast<size_t>(c.layers * size));
  parallel_for(c.layers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t layer = begin; layer < end; ++layer)
      draw_orthogonal_features(seed,
                               random_stream(draw, static_cast<uint32_t>(layer),
                                             static_cast<uint32_t>(RandomSite::random_features)),
                               c.head_dim, c.features, values.data() + layer * size);
  });
}

}  // namespace moltide
