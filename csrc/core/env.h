// What the machine and the environment allow.
#pragma once
#include <cstdint>
#include <string>

namespace moltide {

constexpr int kMaxThreads = 1024;
// MOLTIDE_NUM_THREADS (throws std::invalid_argument unless it is 1..kMaxThreads or empty), else the
// first number of OMP_NUM_THREADS, else the physical cores this process may use (affinity, cgroup).
int default_num_threads();
// Bytes this process can still take: the smaller of MemAvailable and what its cgroup leaves.
int64_t available_memory();
std::string cpu_model();

}  // namespace moltide
