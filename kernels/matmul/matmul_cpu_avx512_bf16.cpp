// bf16 by vdpbf16ps: two products and their sum into float32 a lane and instruction.
#include "matmul/matmul_blocks.h"
#include "matmul/matmul_dw_blocks.h"
#include "matmul/matmul_vector.h"

namespace moltide::MOLTIDE_ISA {

struct DotPairs {
  MOLTIDE_INLINE vf apply(vf acc, vf a, vf b) {
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
  }
};
using PairStep = StepByStep<DotPairs>;

void matmul_run(const MatmulParams& p) {
  matmul_blocked<VectorKernel<PairStep, 2, bf16, false>>(p);
}

void matmul_dw_run(const DwParams& p) {
  dw_blocked<VectorDwKernel<PairStep, 2, bf16>>(p);
}

int64_t matmul_peak_loop(int64_t n, float* sink) {
  return 4 * peak_loop<PairStep>(n, sink);
}

}  // namespace moltide::MOLTIDE_ISA
