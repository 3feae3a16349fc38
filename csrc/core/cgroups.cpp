#include "core/cgroups.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

namespace moltide {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

// A limit in the files of one group's folder.
using Limit = int64_t (*)(const std::string& folder);

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

int64_t processors(double quota, double period) {
  if (quota <= 0 || period <= 0) return kNoLimit;
  return static_cast<int64_t>(std::clamp(std::ceil(quota / period), 1.0, 1e6));
}

// "150000 100000" or "max 100000"
int64_t cpus_v2(const std::string& folder) {
  std::istringstream line(first_line(folder + "/cpu.max"));
  std::string quota;
  double period = 0;
  if (!(line >> quota >> period) || quota == "max") return kNoLimit;
  return processors(std::atof(quota.c_str()), period);
}

// A quota of -1 means none.
int64_t cpus_v1(const std::string& folder) {
  return processors(std::atof(first_line(folder + "/cpu.cfs_quota_us").c_str()),
                    std::atof(first_line(folder + "/cpu.cfs_period_us").c_str()));
}

// The value of "name value" lines, 0 where there is none.
int64_t value_in(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string key;
  for (int64_t value = 0; file >> key >> value;)
    if (key == name) return value;
  return 0;
}

int64_t room(const std::string& limit, const std::string& used, int64_t droppable) {
  if (limit.empty() || used.empty() || limit == "max") return kNoLimit;
  const int64_t taken = std::max<int64_t>(0, std::atoll(used.c_str()) - droppable);
  return std::max<int64_t>(0, std::atoll(limit.c_str()) - taken);
}
int64_t memory_v2(const std::string& folder) {
  return room(first_line(folder + "/memory.max"), first_line(folder + "/memory.current"),
              value_in(folder + "/memory.stat", "inactive_file"));
}
// No limit is a number near 2^63.
int64_t memory_v1(const std::string& folder) {
  return room(first_line(folder + "/memory.limit_in_bytes"),
              first_line(folder + "/memory.usage_in_bytes"),
              value_in(folder + "/memory.stat", "total_inactive_file"));
}

// The least limit from the group `path` up to the mount. In a container the path may be the host's
// and lead nowhere below the mount; the mount itself then holds the container's limit.
int64_t least_up(const std::string& mount, std::string path, Limit limit) {
  int64_t least = kNoLimit;
  for (;;) {
    least = std::min(least, limit(mount + path));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return least;
    path.resize(slash);
  }
}

// The least limit of all groups, by the version 1 controller of this name.
int64_t least_limit(const std::string& cgroups, const std::string& mount,
                    const std::string& controller, Limit v2, Limit v1) {
  int64_t least = kNoLimit;
  std::ifstream file(cgroups);
  std::string line;
  // "0::/group" (version 2), "3:cpu,cpuacct:/group" (version 1)
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (names.empty()) {
      least = std::min(least, least_up(mount, path, v2));
      least = std::min(least, least_up(mount + "/unified", path, v2));
    } else if (("," + names + ",").find("," + controller + ",") != std::string::npos) {
      least = std::min(least, least_up(mount + "/" + controller, path, v1));
    }
  }
  return least;
}

}  // namespace

int quota_cpus(const std::string& cgroups, const std::string& mount) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  return static_cast<int>(std::min(kMost, least_limit(cgroups, mount, "cpu", cpus_v2, cpus_v1)));
}

int64_t quota_memory(const std::string& cgroups, const std::string& mount) {
  return least_limit(cgroups, mount, "memory", memory_v2, memory_v1);
}

}  // namespace moltide
