#include "device/rows.h"
#include "residual/residual_params.h"

namespace moltide::MOLTIDE_ISA {

// f(from, to, how_much) of every vector of every row, by the pair's types.
template <class From, class To, class F>
MOLTIDE_INLINE void typed_rows(const RowPair& p, int64_t begin, int64_t end, F&& f) {
  for (int64_t t = begin; t < end; ++t) {
    const From* from = static_cast<const From*>(p.from) + t * p.from_ld;
    To* to = static_cast<To*>(p.to) + t * p.to_ld;
    for_columns(p.cols, [&](int64_t i, auto n) { f(from + i, to + i, n); });
  }
}

template <class F>
MOLTIDE_INLINE void each_row(const RowPair& p, int64_t begin, int64_t end, F&& f) {
  const bool wide_from = p.from_type == DType::f32, wide_to = p.to_type == DType::f32;
  if (wide_from && wide_to)
    typed_rows<float, float>(p, begin, end, f);
  else if (wide_from)
    typed_rows<float, bf16>(p, begin, end, f);
  else if (wide_to)
    typed_rows<bf16, float>(p, begin, end, f);
  else
    typed_rows<bf16, bf16>(p, begin, end, f);
}

void add_rows(const RowPair& p, int64_t begin, int64_t end) {
  const vf scale = set1(p.scale);
  each_row(p, begin, end, [&](auto* from, auto* to, auto n) {
    store(to, fma(load(from, n), scale, load(to, n)), n);
  });
}

void copy_rows(const RowPair& p, int64_t begin, int64_t end) {
  each_row(p, begin, end, [](auto* from, auto* to, auto n) { store(to, load(from, n), n); });
}

}  // namespace moltide::MOLTIDE_ISA
