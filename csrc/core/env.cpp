#include "core/env.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "core/cgroups.h"
#include "core/check.h"
#include "core/cpus.h"

namespace moltide {
namespace {

// The number `name` says, 0 where it says nothing. OpenMP allows a list, one entry a nesting level.
long threads_from(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && (*end == '\0' || *end == ',') && value >= 1 ? value : -1;
}

}  // namespace

int default_num_threads() {
  const long own = threads_from("MOLTIDE_NUM_THREADS");
  MOLTIDE_CHECK(own >= 0 && own <= kMaxThreads, "MOLTIDE_NUM_THREADS: got '",
                std::getenv("MOLTIDE_NUM_THREADS"), "', allowed 1..", kMaxThreads);
  if (own > 0) return static_cast<int>(own);
  // Other libraries read this one too: what it says wrongly is theirs to refuse.
  const long openmp = threads_from("OMP_NUM_THREADS");
  if (openmp >= 1 && openmp <= kMaxThreads) return static_cast<int>(openmp);
  return std::clamp(std::min(count_cores(allowed_cpus()), quota_cpus()), 1, kMaxThreads);
}

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    if (line.rfind("MemAvailable:", 0) == 0) {
      available = std::atoll(line.c_str() + 13) * 1024;
      break;
    }
  }
  return std::min(available, quota_memory());
}

std::string cpu_model() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line)) {
    if (line.rfind("model name", 0) == 0) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

}  // namespace moltide
