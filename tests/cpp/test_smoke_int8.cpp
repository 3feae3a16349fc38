// 8-bit rows and their products on exactly sized buffers.
#include "heap.h"
#include "layernorm_quantize/layernorm_quantize.h"
#include "matmul_i8/matmul_i8.h"
#include "quantize/quantize.h"

namespace moltide::test {
namespace {

class SmokeInt8 : public EachIsa {};

struct CodeRows {
  CodeRows(int64_t rows, int64_t cols)
      : codes(static_cast<size_t>(rows * int8_ld(cols))),
        scale(static_cast<size_t>(rows) * sizeof(float)),
        view{reinterpret_cast<int8_t*>(codes.get()), reinterpret_cast<float*>(scale.get()), rows,
             cols, int8_ld(cols)} {}
  Block codes, scale;
  Int8Rows view;
};

TEST_P(SmokeInt8, QuantizeAndMultiply) {
  for (int64_t m : {0, 1, 5, 19, 40}) {
    for (int64_t n : {1, 15, 33, 70}) {
      for (int64_t k : {1, 2, 31, 65, 128}) {
        const Rows x(m, k, dtype(), 3), w(n, k, DType::f32, 1), bias(1, n);
        const Rows stream(m, k, DType::f32, 1), norm_w(1, k), norm_b(1, k);
        const Rows y(m, n, DType::f32, 2), half(m, n, dtype(), 1);
        const CodeRows codes(m, k), normed(m, k), inner(m, n);
        AlignedBytes memory = aligned_bytes(packed_int8_bytes(n, k));
        pack_int8(w.f32(), w.view().ld, n, k, memory.get());
        const PackedInt8 map{memory.get(), n, k};
        quantize(x, codes.view);
        layernorm_quantize(stream, norm_w.f32(), norm_b.f32(), 1e-5f, normed.view);
        matmul_i8(codes.view, map, bias.f32(), y);
        matmul_i8(normed.view, map, nullptr, y, Int8Epilogue::accumulate);
        matmul_i8(codes.view, map, bias.f32(), half, Int8Epilogue::gelu);
        matmul_i8(codes.view, map, nullptr, half, Int8Epilogue::accumulate);
        matmul_i8_gelu(codes.view, map, bias.f32(), inner.view);
        for (const Rows* rows : {&y, &half}) rows->expect_sound("matmul_i8");
        for (int64_t i = 0; i < m; ++i) ASSERT_TRUE(std::isfinite(inner.view.scale[i]));
      }
    }
  }
}

MOLTIDE_EACH_ISA(SmokeInt8);

}  // namespace
}  // namespace moltide::test
