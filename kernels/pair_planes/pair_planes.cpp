#include "pair_planes/pair_planes.h"

#include <algorithm>

#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "pair_planes/pair_planes_params.h"

namespace moltide {

MOLTIDE_CPU_OP(void, pairs_to_planes_block, const PairBlock& b)
MOLTIDE_CPU_OP(void, planes_to_pairs_block, const PairBlock& b)

namespace {

// run(block) over rows of the same sequence, at most kPairBlock at a time.
template <class Run>
void for_blocks(const char* op, const PairPlaces& places, const Tensor& rows, int64_t first,
                float* planes, Run run) {
  const int64_t all = places.batch > 0 ? places.pair_starts[places.batch] : 0;
  expect_shape(op, "rows", rows, rows.rows, rows.cols);
  MOLTIDE_CHECK(first >= 0 && first + rows.rows <= all, op, ": got pairs ", first, " to ",
                first + rows.rows, ", allowed 0 to ", all);
  expect_memory(op, "planes", planes, all * rows.cols);
  const int64_t* starts = places.pair_starts;
  parallel_for(rows.rows, row_grain(rows.cols), [&](int64_t begin, int64_t end) {
    int64_t b = std::upper_bound(starts, starts + places.batch + 1, first + begin) - starts - 1;
    for (int64_t i = begin; i < end;) {
      while (starts[b + 1] <= first + i) ++b;
      const int64_t stop = std::min({end, starts[b + 1] - first, i + kPairBlock});
      const int64_t pairs = starts[b + 1] - starts[b], within = first + i - starts[b];
      run(PairBlock{rows.at(i), rows.ld, rows.dtype, planes + rows.cols * starts[b] + within, pairs,
                    stop - i, rows.cols});
      i = stop;
    }
  });
}

}  // namespace

void pairs_to_planes(const PairPlaces& places, const Tensor& rows, int64_t first, float* planes) {
  for_blocks("pairs_to_planes", places, rows, first, planes,
             [](const PairBlock& b) { MOLTIDE_CPU_CALL(pairs_to_planes_block, b); });
}

void planes_to_pairs(const PairPlaces& places, const float* planes, int64_t first,
                     const Tensor& rows) {
  for_blocks("planes_to_pairs", places, rows, first, const_cast<float*>(planes),
             [](const PairBlock& b) { MOLTIDE_CPU_CALL(planes_to_pairs_block, b); });
}

}  // namespace moltide
