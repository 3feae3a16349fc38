// What the cgroups of this process, of version 2 or 1, and all that enclose them let it use. The
// paths are arguments for the tests.
#pragma once
#include <cstdint>
#include <string>

namespace moltide {

// Processors, rounded up; a large number where nothing limits them.
int quota_cpus(const std::string& cgroups = "/proc/self/cgroup",
               const std::string& mount = "/sys/fs/cgroup");
// Bytes that the group with the least room can still take, what the kernel can drop from its page
// cache counted as room; a large number where nothing limits it.
int64_t quota_memory(const std::string& cgroups = "/proc/self/cgroup",
                     const std::string& mount = "/sys/fs/cgroup");

}  // namespace moltide
