#include "matmul_i8/matmul_i8.h"

#include "core/expect.h"
#include "core/isa.h"
#include "core/timing.h"
#include "matmul_i8/matmul_i8_params.h"

namespace moltide {

#define MOLTIDE_DECLARE(isa)                     \
  namespace isa {                                \
  void matmul_i8_run(const MatmulI8Params& p);   \
  int64_t matmul_i8_loop(int64_t n, char* sink); \
  }
MOLTIDE_DECLARE(portable)
#if defined(__x86_64__)
MOLTIDE_DECLARE(avx2)
MOLTIDE_DECLARE(avx512)
MOLTIDE_DECLARE(avx512_vnni)
MOLTIDE_DECLARE(avx512_bf16)
MOLTIDE_DECLARE(amx)
#endif

namespace {

constexpr int64_t kLargestK = 131072;

struct Functions {
  void (*run)(const MatmulI8Params&);
  int64_t (*loop)(int64_t, char*);
};

Functions functions() {
#if defined(__x86_64__)
  switch (active_isa()) {
    case Isa::amx:
      return {amx::matmul_i8_run, amx::matmul_i8_loop};
    case Isa::avx512_bf16:
      return {avx512_bf16::matmul_i8_run, avx512_bf16::matmul_i8_loop};
    case Isa::avx512_vnni:
      return {avx512_vnni::matmul_i8_run, avx512_vnni::matmul_i8_loop};
    case Isa::avx512:
      return {avx512::matmul_i8_run, avx512::matmul_i8_loop};
    case Isa::avx2:
      return {avx2::matmul_i8_run, avx2::matmul_i8_loop};
    case Isa::portable:
      break;
  }
#endif
  return {portable::matmul_i8_run, portable::matmul_i8_loop};
}

MatmulI8Params checked(const char* op, const Int8Rows& x, const PackedInt8& w, const float* bias) {
  MOLTIDE_CHECK(w.n >= 0 && w.k >= 0 && w.k <= kLargestK, op, ": W maps ", w.k, " to ", w.n,
                " values, allowed: at most ", kLargestK, " to any number");
  MOLTIDE_CHECK(x.cols == w.k, op, ": x is (", x.rows, ", ", x.cols, "), expected (", x.rows, ", ",
                w.k, ")");
  expect_int8(op, "x", x);
  MOLTIDE_CHECK(w.data || w.n == 0, op, ": W is not packed");
  MOLTIDE_CHECK(reinterpret_cast<uintptr_t>(w.data) % 64 == 0, op,
                ": packed W lies at an address that is not a multiple of 64");
  const int64_t n = (w.n + kInt8Panel - 1) / kInt8Panel * kInt8Panel;
  const int8_t* codes = static_cast<const int8_t*>(w.data);
  const int8_t* offset = codes + n * int8_ld(w.k);
  MatmulI8Params p{};
  p.x = x.data;
  p.x_scale = x.scale;
  p.x_ld = x.ld;
  p.w = codes;
  p.w_offset = reinterpret_cast<const int32_t*>(offset);
  p.w_scale = reinterpret_cast<const float*>(offset + n * 4);
  p.bias = bias;
  p.m = x.rows;
  p.n = w.n;
  p.k = w.k;
  return p;
}

}  // namespace

void matmul_i8(const Int8Rows& x, const PackedInt8& w, const float* bias, const Tensor& y,
               Int8Epilogue epilogue) {
  MatmulI8Params p = checked("matmul_i8", x, w, bias);
  expect_shape("matmul_i8", "y", y, x.rows, w.n);
  p.y = y.data;
  p.y_ld = y.ld;
  p.y_bf16 = y.dtype == DType::bf16;
  p.epilogue = static_cast<uint8_t>(epilogue);
  if (p.m > 0 && p.n > 0) functions().run(p);
}

void matmul_i8_gelu(const Int8Rows& x, const PackedInt8& w, const float* bias, const Int8Rows& q) {
  constexpr const char* kOp = "matmul_i8_gelu";
  MatmulI8Params p = checked(kOp, x, w, bias);
  MOLTIDE_CHECK(q.rows == x.rows && q.cols == w.n, kOp, ": q is (", q.rows, ", ", q.cols,
                "), expected (", x.rows, ", ", w.n, ")");
  expect_int8(kOp, "q", q);
  p.q = q.data;
  p.q_ld = q.ld;
  p.q_scale = q.scale;
  p.epilogue = 3;
  if (p.m > 0 && p.n > 0) functions().run(p);
}

double matmul_i8_peak() {
  alignas(64) char values[1024] = {};
  return highest_rate([&](int64_t n) { return functions().loop(n, values); });
}

}  // namespace moltide
