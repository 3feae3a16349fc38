#include "train/schedule.h"

#include <algorithm>
#include <cmath>

namespace moltide {

double schedule_ratio(const ScheduleConfig& c, int64_t step) {
  if (step < c.warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  if (c.kind == Schedule::constant) return 1.0;
  const int64_t span = std::max<int64_t>(1, c.total_steps - c.warmup_steps);
  const double done =
      std::min(1.0, static_cast<double>(step - c.warmup_steps) / static_cast<double>(span));
  const double left = c.kind == Schedule::linear
                          ? 1.0 - done
                          : 0.5 * (1.0 + std::cos(3.14159265358979323846 * done));
  return c.min_ratio + (1.0 - c.min_ratio) * left;
}

}  // namespace moltide
