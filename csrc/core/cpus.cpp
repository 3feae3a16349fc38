#include "core/cpus.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace moltide {
namespace {

constexpr int kNoLimit = std::numeric_limits<int>::max();

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int processors(double quota, double period) {
  if (quota <= 0 || period <= 0) return kNoLimit;
  return static_cast<int>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

// "150000 100000" or "max 100000"
int limit_v2(const std::string& folder) {
  std::istringstream line(first_line(folder + "/cpu.max"));
  std::string quota;
  double period = 0;
  if (!(line >> quota >> period) || quota == "max") return kNoLimit;
  return processors(std::atof(quota.c_str()), period);
}

// A quota of -1 means none.
int limit_v1(const std::string& folder) {
  return processors(std::atof(first_line(folder + "/cpu.cfs_quota_us").c_str()),
                    std::atof(first_line(folder + "/cpu.cfs_period_us").c_str()));
}

// The least limit from the group `path` up to the mount. In a container the path may be the host's
// and lead nowhere below the mount; the mount itself then holds the container's limit.
int least_limit(const std::string& mount, std::string path, int (*limit)(const std::string&)) {
  int least = kNoLimit;
  for (;;) {
    least = std::min(least, limit(mount + path));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return least;
    path.resize(slash);
  }
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

int quota_cpus(const std::string& cgroups, const std::string& mount) {
  int least = kNoLimit;
  std::ifstream file(cgroups);
  std::string line;
  // "0::/group" (version 2), "3:cpu,cpuacct:/group" (version 1)
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (names.empty()) {
      least = std::min(least, least_limit(mount, path, limit_v2));
      least = std::min(least, least_limit(mount + "/unified", path, limit_v2));
    } else if (("," + names + ",").find(",cpu,") != std::string::npos) {
      least = std::min(least, least_limit(mount + "/cpu", path, limit_v1));
    }
  }
  return least;
}

}  // namespace moltide
