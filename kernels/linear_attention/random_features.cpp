#include "linear_attention/random_features.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/parallel.h"
#include "core/philox.h"

namespace moltide {
namespace {

double normal(uint64_t seed, uint64_t stream, int64_t counter) {
  const PhiloxBlock draw = philox4x32(seed, static_cast<uint64_t>(counter), stream);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - philox_uniform(draw.v[0])));
  return radius * std::cos(2.0 * 3.14159265358979323846 * philox_uniform(draw.v[1]));
}

double dot(const double* x, const double* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace

void draw_orthogonal_features(uint64_t seed, uint64_t stream, int64_t head_dim, int64_t features,
                              float* w) {
  MOLTIDE_CHECK(head_dim >= 1 && features >= 1, "draw_orthogonal_features: got head dimension ",
                head_dim, " and ", features, " features, allowed 1 or more");
  const int64_t d = head_dim;
  double* vectors = static_cast<double*>(
      thread_scratch(Scratch::op, static_cast<size_t>(d * d + d) * sizeof(double)));
  double* squares = vectors + d * d;
  for (int64_t first = 0; first < features; first += d) {
    const int64_t count = std::min(d, features - first);
    std::fill_n(squares, d, 0.0);
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) {
        const double x = normal(seed, stream, (first + i) * d + j);
        vectors[j * d + i] = x;  // column j
        squares[i] += x * x;
      }
    for (int64_t j = 0; j < count; ++j) {
      double* column = vectors + j * d;
      for (int64_t before = 0; before < j; ++before) {
        const double* other = vectors + before * d;
        const double along = dot(column, other, d);
        for (int64_t i = 0; i < d; ++i) column[i] -= along * other[i];
      }
      const double length = std::sqrt(dot(column, column, d));
      for (int64_t i = 0; i < d; ++i) column[i] /= length;
      const double norm = std::sqrt(squares[j]);
      for (int64_t i = 0; i < d; ++i)
        w[i * features + first + j] = static_cast<float>(column[i] * norm);
    }
  }
}

}  // namespace moltide
