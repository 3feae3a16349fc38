// Which processors this process may compute on. The paths are arguments for the tests.
#pragma once
#include <string>
#include <vector>

namespace moltide {

// The processors of the affinity mask (taskset, cpuset, job schedulers); all that are online where
// the system has no such mask.
std::vector<int> allowed_cpus();
// Physical cores among `cpus`: hyper-threads of one core count once. A processor whose topology
// cannot be read is a core of its own.
int count_cores(const std::vector<int>& cpus, const std::string& sys = "/sys/devices/system/cpu");
}  // namespace moltide
