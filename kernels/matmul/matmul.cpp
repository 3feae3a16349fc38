#include "matmul/matmul.h"

#include "core/check.h"
#include "core/expect.h"
#include "core/isa.h"
#include "core/timing.h"
#include "matmul/matmul_params.h"

namespace moltide {

#define MOLTIDE_DECLARE(isa)                              \
  namespace isa {                                         \
  void matmul_run(const MatmulParams& p);                 \
  void matmul_dw_run(const DwParams& p);                  \
  int64_t matmul_peak_loop(int64_t n, float* sixty_four); \
  }
MOLTIDE_DECLARE(portable)
#if defined(__x86_64__)
MOLTIDE_DECLARE(avx2)
MOLTIDE_DECLARE(avx512)
MOLTIDE_DECLARE(avx512_bf16)
MOLTIDE_DECLARE(amx)
namespace avx512 {
void matmul_winograd_run(const MatmulParams& p);
}
#endif

namespace {

struct Functions {
  void (*matmul)(const MatmulParams&);
  void (*matmul_dw)(const DwParams&);
  int64_t (*peak_loop)(int64_t, float*);
};

// avx512_bf16 and amx have instructions for bf16 only; float32 is AVX-512's there.
Functions functions(DType dtype) {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx:
      if (dtype == DType::bf16) return {amx::matmul_run, amx::matmul_dw_run, amx::matmul_peak_loop};
      [[fallthrough]];
    case Isa::avx512_bf16:
      if (dtype == DType::bf16)
        return {avx512_bf16::matmul_run, avx512_bf16::matmul_dw_run, avx512_bf16::matmul_peak_loop};
      [[fallthrough]];
    case Isa::avx512_vnni:
    case Isa::avx512:
      return {avx512::matmul_run, avx512::matmul_dw_run, avx512::matmul_peak_loop};
    case Isa::avx2:
      return {avx2::matmul_run, avx2::matmul_dw_run, avx2::matmul_peak_loop};
    case Isa::portable:
      break;
  }
#endif
  static_cast<void>(dtype);
  return {portable::matmul_run, portable::matmul_dw_run, portable::matmul_peak_loop};
}

#if defined(__x86_64__)
// avx512 stays plain, so that there is a way to compute without Winograd's inner product.
bool takes_winograd(const PackedMatrix& w) {
  return active_isa() == Isa::avx512_bf16 && has_packed_sums(w.n, w.k, w.dtype == DType::bf16) &&
         *packed_sums(w.data, w.n, w.k).size > 0;
}
#endif

}  // namespace

void matmul(const Tensor& x, const PackedMatrix& w, const float* bias, const Tensor& y,
            Epilogue epilogue, const Tensor* pre) {
  constexpr const char* kOp = "matmul";
  MOLTIDE_CHECK(w.n >= 0 && w.k >= 0, kOp, ": W maps ", w.k, " to ", w.n, " values");
  expect_dtype(kOp, "x", x, w.dtype);
  expect_shape(kOp, "x", x, x.rows, w.k);
  expect_shape(kOp, "y", y, x.rows, w.n);
  MOLTIDE_CHECK(y.dtype == DType::f32 || y.dtype == w.dtype, kOp, ": y is ", describe(y),
                ", expected float32 or the type of x");
  if (pre) {
    MOLTIDE_CHECK(epilogue == Epilogue::gelu, kOp, ": pre is written by the gelu epilogue only");
    expect_dtype(kOp, "pre", *pre, y.dtype);
    expect_shape(kOp, "pre", *pre, x.rows, w.n);
  }
  if (x.rows == 0 || w.n == 0) return;
  MOLTIDE_CHECK(w.data || w.k == 0, kOp, ": W is not packed");
  MOLTIDE_CHECK(reinterpret_cast<uintptr_t>(w.data) % 64 == 0, kOp,
                ": packed W lies at an address that is not a multiple of 64");
  MatmulParams p{x.data,
                 w.data,
                 bias,
                 y.data,
                 pre ? pre->data : nullptr,
                 x.ld,
                 y.ld,
                 pre ? pre->ld : 0,
                 x.rows,
                 w.n,
                 w.k,
                 w.dtype == DType::bf16,
                 y.dtype == DType::bf16,
                 static_cast<uint8_t>(epilogue)};
#if defined(__x86_64__)
  if (takes_winograd(w)) {
    p.sums = packed_sums(w.data, w.n, w.k);
    return avx512::matmul_winograd_run(p);
  }
#endif
  functions(w.dtype).matmul(p);
}

void matmul_dw(const Tensor& dy, const Tensor& x, const Tensor& dw, float* db, float scale) {
  constexpr const char* kOp = "matmul_dw";
  expect_shape(kOp, "dy", dy, dy.rows, dy.cols);
  expect_dtype(kOp, "x", x, dy.dtype);
  expect_shape(kOp, "x", x, dy.rows, x.cols);
  expect_f32(kOp, "dw", dw, dy.cols, x.cols);
  if (dy.rows == 0 || dy.cols == 0) return;
  const DwParams p{dy.data, x.data,  dw.f32(), db,     dy.ld, x.ld,
                   dw.ld,   dy.rows, dy.cols,  x.cols, scale, dy.dtype == DType::bf16};
  functions(dy.dtype).matmul_dw(p);
}

double matmul_peak_flops(DType dtype) {
  alignas(64) float values[256] = {};
  return highest_rate([&](int64_t n) { return functions(dtype).peak_loop(n, values); });
}

}  // namespace moltide
