#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moltide {

struct CrossEntropyRows {
  const float* logits;
  int64_t ld;
  const int32_t* label;
  const float* weight;  // or null
  double scale;
  int64_t classes;
  void* dlogits;  // or null
  int64_t dlogits_ld;
  DType dlogits_dtype;
  double* row_loss;  // = weight * -log softmax(logits)[label]
};

}  // namespace moltide
