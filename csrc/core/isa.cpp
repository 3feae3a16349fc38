#include "core/isa.h"

#include <atomic>
#include <cstdlib>

#include "core/check.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moltide {
namespace {

#if defined(__x86_64__)
// Linux hands out AMX tile state on request only (since 5.16); without it tile instructions fault.
bool request_amx() {
#if defined(__linux__)
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXfeatureTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;
  constexpr unsigned kAll = kAmxBf16 | kAmxTile | kAmxInt8;
  if ((d & kAll) != kAll) return false;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
#else
  return false;
#endif
}
#endif

std::vector<Isa> detect() {
  std::vector<Isa> found{Isa::portable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  found.push_back(Isa::avx2);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return found;
  found.push_back(Isa::avx512);
  if (!__builtin_cpu_supports("avx512vnni")) return found;
  found.push_back(Isa::avx512_vnni);
  if (!__builtin_cpu_supports("avx512bf16")) return found;
  found.push_back(Isa::avx512_bf16);
  if (__builtin_cpu_supports("avx512vbmi") && request_amx()) found.push_back(Isa::amx);
#endif
  return found;
}

Isa parse(const std::string& name) {
  std::string allowed;
  for (Isa isa : available_isas()) {
    if (name == isa_name(isa)) return isa;
    allowed += allowed.empty() ? isa_name(isa) : std::string(", ") + isa_name(isa);
  }
  throw std::invalid_argument(
      concat("instruction set '", name, "' is not available here; available: ", allowed));
}

bool is_intel() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel");
#else
  return false;
#endif
}

Isa initial() {
  const char* forced = std::getenv("MOLTIDE_ISA");
  return forced && *forced ? parse(forced) : fastest_isa(available_isas(), is_intel());
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{initial()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_vnni:
      return "avx512_vnni";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
  }
  return "?";
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> found = detect();
  return found;
}

Isa fastest_isa(const std::vector<Isa>& available, bool intel) {
  const Isa last = available.back();
  return intel && last == Isa::avx512_bf16 ? Isa::avx512_vnni : last;
}

bool adders_apart() {
#if defined(__x86_64__)
  static const bool apart = [] {
    constexpr unsigned kZen3And4 = 0x19;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__builtin_cpu_is("amd") || !__get_cpuid(1, &a, &b, &c, &d)) return false;
    const unsigned family = (a >> 8 & 15) + (a >> 20 & 255);
    return family == kZen3And4 && __builtin_cpu_supports("avx512f");
  }();
  return apart;
#else
  return false;
#endif
}

Isa active_isa() {
  return active().load(std::memory_order_relaxed);
}

void set_isa(const std::string& name) {
  active().store(parse(name), std::memory_order_relaxed);
}

}  // namespace moltide
