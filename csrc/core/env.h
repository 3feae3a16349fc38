// What the machine and the environment allow.
#pragma once
#include <cstdint>
#include <string>

namespace moltide {

// MOLTIDE_NUM_THREADS, else OMP_NUM_THREADS, else the processors this process may use (affinity,
// cgroup).
int default_num_threads();
// Bytes this process can still take: the smaller of MemAvailable and what its cgroup leaves.
int64_t available_memory();
std::string cpu_model();

}  // namespace moltide
