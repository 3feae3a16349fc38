// Which instruction set the CPU kernels use; chosen at run time, can be forced for tests.
#pragma once
#include <string>
#include <vector>

namespace moltide {

// Ordered: each includes what is above it. The last three have products of narrow types only:
// avx512_vnni changes matmul_i8 alone, avx512_bf16 matmul as well (and float32's where
// adders_apart), amx attention too.
enum class Isa { portable, avx2, avx512, avx512_vnni, avx512_bf16, amx };

const char* isa_name(Isa isa);
// What this processor and operating system can run, best last.
const std::vector<Isa>& available_isas();
// What to run of them unless told: the last, but on Intel avx512_bf16 gives way to avx512_vnni. Its
// products of bf16 take twice as long there as those of float32, which avx512_vnni widens to.
Isa fastest_isa(const std::vector<Isa>& available, bool intel);
// Whether additions have units of their own, so that they cost nothing beside multiply-adds: AMD's
// Zen 4. (Zen 5 has such units too; whether its loads keep up was not measured.)
bool adders_apart();
// fastest_isa of this machine, or MOLTIDE_ISA from the environment, or what set_isa said last.
Isa active_isa();
// Throws std::invalid_argument for a name that is unknown or not available here.
void set_isa(const std::string& name);

}  // namespace moltide

// An op's CPU source is compiled once per vector instruction set, each in a namespace of its own.
// MOLTIDE_CPU_OP declares the three with vectors; MOLTIDE_CPU_CALL runs the active one.
#if defined(__x86_64__)
#define MOLTIDE_CPU_OP(result, name, ...) \
  namespace portable {                    \
  result name(__VA_ARGS__);               \
  }                                       \
  namespace avx2 {                        \
  result name(__VA_ARGS__);               \
  }                                       \
  namespace avx512 {                      \
  result name(__VA_ARGS__);               \
  }
#define MOLTIDE_CPU_CALL(name, ...)                                              \
  (::moltide::active_isa() >= ::moltide::Isa::avx512 ? avx512::name(__VA_ARGS__) \
   : ::moltide::active_isa() >= ::moltide::Isa::avx2 ? avx2::name(__VA_ARGS__)   \
                                                     : portable::name(__VA_ARGS__))
#else
#define MOLTIDE_CPU_OP(result, name, ...) \
  namespace portable {                    \
  result name(__VA_ARGS__);               \
  }
#define MOLTIDE_CPU_CALL(name, ...) portable::name(__VA_ARGS__)
#endif
