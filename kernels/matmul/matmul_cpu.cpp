// float32 and, where there is no bf16 instruction, bf16 widened to float32 on its way into scratch.
#include "matmul/matmul_blocks.h"
#include "matmul/matmul_dw_blocks.h"
#include "matmul/matmul_vector.h"
#if defined(__AVX512F__)
#include "matmul/matmul_winograd.h"
#endif

namespace moltide::MOLTIDE_ISA {

void matmul_run(const MatmulParams& p) {
  if (p.bf16)
    matmul_blocked<VectorKernel<FloatStep, 1, bf16, true>>(p);
  else
    matmul_blocked<VectorKernel<FloatStep, 1, float, false>>(p);
}

#if defined(__AVX512F__)
void matmul_winograd_run(const MatmulParams& p) {
  matmul_blocked<WinogradKernel>(p);
}
#endif

void matmul_dw_run(const DwParams& p) {
  if (p.bf16)
    dw_blocked<VectorDwKernel<FloatStep, 1, bf16>>(p);
  else
    dw_blocked<VectorDwKernel<FloatStep, 1, float>>(p);
}

int64_t matmul_peak_loop(int64_t n, float* sink) {
  return 2 * peak_loop<FloatStep>(n, sink);
}

}  // namespace moltide::MOLTIDE_ISA
