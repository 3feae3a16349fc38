// The matrix product on exactly sized, strided buffers.
#include "heap.h"
#include "matmul/matmul.h"

namespace moltide::test {
namespace {

class SmokeMatmul : public EachIsa {};

PackedMatrix pack(const Rows& w, bool transpose, int64_t n, int64_t k, DType dtype,
                  AlignedBytes& memory) {
  memory = aligned_bytes(packed_bytes(n, k, dtype));
  pack_matrix(w.f32(), w.view().ld, transpose, n, k, 0.5f, dtype, memory.get());
  return {memory.get(), n, k, dtype};
}

TEST_P(SmokeMatmul, ForwardAndBackward) {
  for (int64_t m : {0, 1, 5, 19}) {
    for (int64_t n : {1, 15, 33, 70}) {
      for (int64_t k : {1, 2, 31, 65}) {
        const Rows x(m, k, dtype(), 3), w(n, k, DType::f32, 1), bias(1, n);
        const Rows y(m, n, DType::f32, 2), half(m, n, dtype(), 1), pre(m, n, dtype(), 5);
        const Rows dy(m, n, dtype(), 2, 4), dx(m, k, dtype(), 1), dw(n, k, DType::f32, 2), db(1, n);
        AlignedBytes memory, backward;
        const PackedMatrix map = pack(w, false, n, k, dtype(), memory);
        matmul(x, map, bias.f32(), y);
        matmul(x, map, nullptr, y, Epilogue::accumulate);
        matmul(x, map, bias.f32(), half);
        const Tensor pre_view = pre;
        matmul(x, map, bias.f32(), half, Epilogue::gelu, &pre_view);
        matmul(x, map, bias.f32(), half, Epilogue::gelu);
        matmul(dy, pack(w, true, k, n, dtype(), backward), nullptr, dx);
        matmul_dw(dy, x, dw, db.f32(), 0.5f);
        matmul_dw(dy, x, dw, nullptr);
        for (const Rows* rows : {&y, &half, &pre, &dx, &dw, &db}) rows->expect_sound("matmul");
      }
    }
  }
}

MOLTIDE_EACH_ISA(SmokeMatmul);

}  // namespace
}  // namespace moltide::test
