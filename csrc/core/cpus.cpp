#include "core/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace moltide {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
#endif
  const long online = cpus.empty() ? sysconf(_SC_NPROCESSORS_ONLN) : 0;
  for (int cpu = 0; cpu < online; ++cpu) cpus.push_back(cpu);
  return cpus;
}

int count_cores(const std::vector<int>& cpus, const std::string& sys) {
#if defined(__APPLE__)
  int physical = 0;
  size_t size = sizeof(physical);
  if (sysctlbyname("hw.physicalcpu", &physical, &size, nullptr, 0) == 0 && physical > 0)
    return std::min(physical, static_cast<int>(cpus.size()));
#endif
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string topology = sys + "/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings = first_line(topology + "core_cpus_list");
    if (siblings.empty()) siblings = first_line(topology + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return static_cast<int>(cores.size());
}

}  // namespace moltide
