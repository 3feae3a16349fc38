// Learning rate by step: linear warm-up, then constant, linear or cosine decay to a floor.
#pragma once
#include <cstdint>

namespace moltide {

enum class Schedule { constant, linear, cosine };

struct ScheduleConfig {
  Schedule kind = Schedule::cosine;
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  double min_ratio = 0.0;  // the floor, as a share of the peak
};

// Multiplier of the peak learning rate at step 0, 1, ...
double schedule_ratio(const ScheduleConfig& config, int64_t step);

}  // namespace moltide
