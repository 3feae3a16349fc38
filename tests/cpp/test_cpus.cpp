// The processors a process may use, read from trees that this test writes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/cgroups.h"
#include "core/cpus.h"
#include "core/env.h"

namespace moltide {
namespace {

constexpr int kNone = std::numeric_limits<int>::max();

class Cpus : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "cpusXXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << '\n';
  }
  int quota() { return quota_cpus((root_ / "self").string(), (root_ / "mount").string()); }
  int64_t memory() { return quota_memory((root_ / "self").string(), (root_ / "mount").string()); }

  std::filesystem::path root_;
};

TEST_F(Cpus, HyperthreadsOfOneCoreCountOnce) {
  for (int cpu = 0; cpu < 8; ++cpu) {
    const std::string n = std::to_string(cpu % 4), other = std::to_string(cpu % 4 + 4);
    write("cpu" + std::to_string(cpu) + "/topology/core_cpus_list", n + "," + other);
  }
  const std::string sys = root_.string();
  EXPECT_EQ(count_cores({0, 1, 2, 3, 4, 5, 6, 7}, sys), 4);
  EXPECT_EQ(count_cores({0, 4}, sys), 1);
  EXPECT_EQ(count_cores({0, 5}, sys), 2);
  EXPECT_EQ(count_cores({3}, sys), 1);
}

TEST_F(Cpus, OlderKernelsNameSiblings) {
  write("cpu0/topology/thread_siblings_list", "0-1");
  write("cpu1/topology/thread_siblings_list", "0-1");
  EXPECT_EQ(count_cores({0, 1}, root_.string()), 1);
}

TEST_F(Cpus, WithoutTopologyEachIsACore) {
  EXPECT_EQ(count_cores({0, 1, 2}, root_.string()), 3);
}

TEST_F(Cpus, QuotaOfVersionTwo) {
  write("self", "0::/");
  EXPECT_EQ(quota(), kNone);
  write("mount/cpu.max", "max 100000");
  EXPECT_EQ(quota(), kNone);
  write("mount/cpu.max", "400000 100000");
  EXPECT_EQ(quota(), 4);
  write("mount/cpu.max", "150000 100000");
  EXPECT_EQ(quota(), 2);
  write("mount/cpu.max", "10000 100000");
  EXPECT_EQ(quota(), 1);
}

TEST_F(Cpus, AnEnclosingGroupLimitsToo) {
  write("self", "0::/pod/box");
  write("mount/pod/box/cpu.max", "max 100000");
  write("mount/pod/cpu.max", "300000 100000");
  EXPECT_EQ(quota(), 3);
  write("mount/pod/box/cpu.max", "200000 100000");
  EXPECT_EQ(quota(), 2);
}

TEST_F(Cpus, QuotaOfVersionOne) {
  write("self", "5:cpuset:/\n3:cpu,cpuacct:/box\n0::/");
  write("mount/cpu/box/cpu.cfs_quota_us", "-1");
  write("mount/cpu/box/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota(), kNone);
  write("mount/cpu/box/cpu.cfs_quota_us", "250000");
  EXPECT_EQ(quota(), 3);
}

// In a container of version 1 the path is the host's; the limit lies at the mount.
TEST_F(Cpus, APathThatLeadsNowhere) {
  write("self", "3:cpu,cpuacct:/docker/0123");
  write("mount/cpu/cpu.cfs_quota_us", "200000");
  write("mount/cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota(), 2);
}

TEST_F(Cpus, MemoryOfVersionTwo) {
  constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  write("self", "0::/pod/box");
  EXPECT_EQ(memory(), kUnlimited);
  write("mount/pod/box/memory.max", "max");
  write("mount/pod/box/memory.current", "700");
  EXPECT_EQ(memory(), kUnlimited);
  write("mount/pod/memory.max", "1000");
  write("mount/pod/memory.current", "800");
  EXPECT_EQ(memory(), 200);
  write("mount/pod/memory.stat", "anon 500\ninactive_file 300\nactive_file 1");
  EXPECT_EQ(memory(), 500);
  write("mount/pod/box/memory.max", "750");
  EXPECT_EQ(memory(), 50);
  write("mount/pod/box/memory.current", "900");
  EXPECT_EQ(memory(), 0);
}

TEST_F(Cpus, MemoryOfVersionOne) {
  write("self", "5:cpuset:/\n4:memory:/box\n0::/");
  write("mount/memory/box/memory.limit_in_bytes", "1000");
  write("mount/memory/box/memory.usage_in_bytes", "600");
  write("mount/memory/memory.limit_in_bytes", "9223372036854771712");
  write("mount/memory/memory.usage_in_bytes", "900");
  EXPECT_EQ(memory(), 400);
  write("mount/memory/box/memory.stat", "cache 100\ninactive_file 7\ntotal_inactive_file 100");
  EXPECT_EQ(memory(), 500);
}

TEST(Environment, NamesTheNumberOfThreads) {
  setenv("OMP_NUM_THREADS", "3,2", 1);
  EXPECT_EQ(default_num_threads(), 3);
  setenv("MOLTIDE_NUM_THREADS", "5", 1);
  EXPECT_EQ(default_num_threads(), 5);
  for (const char* bad : {"0", "-2", "two", "4x", "1025"}) {
    setenv("MOLTIDE_NUM_THREADS", bad, 1);
    EXPECT_THROW(default_num_threads(), std::invalid_argument) << bad;
  }
  unsetenv("MOLTIDE_NUM_THREADS");
  const int allowed = static_cast<int>(allowed_cpus().size());
  for (const char* ignored : {"", "0", "many"}) {
    setenv("OMP_NUM_THREADS", ignored, 1);
    EXPECT_GE(default_num_threads(), 1);
    EXPECT_LE(default_num_threads(), allowed);
  }
  unsetenv("OMP_NUM_THREADS");
}

}  // namespace
}  // namespace moltide
