// Pairwise logistic loss over the pairs of known order.
#include <cmath>
#include <limits>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "loss/loss.h"
#include "loss/terms.h"

namespace moltide {
namespace {

// One column: every true value lies in [low, high]; a censored one has one infinite end.
struct Column {
  std::vector<double> low, high, weight;

  // The caller's, kept from step to step, with the values of this column.
  static const Column& of(const char* op, const Tensor& target, const int8_t* censor,
                          const float* row_weight, int64_t column) {
    static thread_local Column kept;
    kept.fill(op, target, censor, row_weight, column);
    return kept;
  }
  void fill(const char* op, const Tensor& target, const int8_t* censor, const float* row_weight,
            int64_t column) {
    low.clear();
    high.clear();
    weight.clear();
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    for (int64_t i = 0; i < target.rows; ++i) {
      const double y = loss::target_at(op, target, i, column);
      const int8_t kind = censor ? censor[i * target.cols + column] : 0;
      MOLTIDE_CHECK(kind >= -1 && kind <= 1, op, ": censor of row ", i, ", column ", column, " is ",
                    static_cast<int>(kind), ", allowed: -1, 0, 1");
      low.push_back(kind < 0 ? -kInfinity : y);
      high.push_back(kind > 0 ? kInfinity : y);
      weight.push_back(loss::row_weight(op, row_weight, i));
    }
  }
  // Comparisons with NaN are false: a missing target is in no pair.
  bool above(size_t i, size_t j) const {
    if (low[i] > high[j]) return true;
    return low[i] == high[j] && (low[i] != high[i] || low[j] != high[j]);
  }
};

// f(i) for every row, each on one thread; sums are then taken in row order.
template <class F>
void for_rows(size_t n, F&& f) {
  const int64_t rows = static_cast<int64_t>(n);
  parallel_for(rows, 4096 / (rows + 1) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(static_cast<size_t>(i));
  });
}

// n zeros of the caller's, kept from step to step.
std::vector<double>& kept_rows(int which, size_t n) {
  static thread_local std::vector<double> kept[2];
  kept[which].assign(n, 0.0);
  return kept[which];
}

double sum_in_order(const std::vector<double>& values) {
  double total = 0.0;
  for (const double value : values) total += value;
  return total;
}

}  // namespace

int64_t ranking_pairs(const Tensor& target, const int8_t* censor) {
  int64_t pairs = 0;
  for (int64_t c = 0; c < target.cols; ++c) {
    const Column& column = Column::of("ranking_pairs", target, censor, nullptr, c);
    std::vector<int64_t> row(column.low.size());
    for_rows(row.size(), [&](size_t i) {
      for (size_t j = 0; j < row.size(); ++j) row[i] += column.above(i, j);
    });
    for (const int64_t count : row) pairs += count;
  }
  return pairs;
}

double ranking_weight(const Tensor& target, const int8_t* censor, const float* weight) {
  double total = 0.0;
  for (int64_t c = 0; c < target.cols; ++c) {
    const Column& column = Column::of("ranking_weight", target, censor, weight, c);
    std::vector<double>& row = kept_rows(0, column.low.size());
    for_rows(row.size(), [&](size_t i) {
      double sum = 0.0;
      for (size_t j = 0; j < row.size(); ++j)
        if (column.above(i, j)) sum += column.weight[j];
      row[i] = column.weight[i] * sum;
    });
    total += sum_in_order(row);
  }
  return total;
}

double ranking(const Tensor& pred, const Tensor& target, const int8_t* censor, const float* weight,
               double scale, const Tensor& dpred) {
  loss::check_shapes("ranking", pred, target, dpred);
  double total = 0.0;
  for (int64_t c = 0; c < pred.cols; ++c) {
    const Column& column = Column::of("ranking", target, censor, weight, c);
    const size_t n = column.low.size();
    std::vector<double>&x = kept_rows(0, n), &row_loss = kept_rows(1, n);
    for (size_t i = 0; i < n; ++i)
      x[i] = static_cast<const float*>(pred.at(static_cast<int64_t>(i)))[c];
    // A pair is met twice, once from each row, so that no two threads write one gradient.
    for_rows(n, [&](size_t i) {
      double sum = 0.0, gradient = 0.0;
      for (size_t j = 0; j < n; ++j) {
        const bool over = column.above(i, j);
        if ((!over && !column.above(j, i)) || column.weight[i] == 0.0 || column.weight[j] == 0.0)
          continue;
        const double margin = over ? x[i] - x[j] : x[j] - x[i];
        const double e = std::exp(-std::fabs(margin));
        const double slope = column.weight[j] * (margin > 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e));
        gradient += over ? -slope : slope;
        if (over) sum += column.weight[j] * (std::log1p(e) + (margin < 0.0 ? -margin : 0.0));
      }
      row_loss[i] = column.weight[i] * sum;
      if (dpred)
        static_cast<float*>(dpred.at(static_cast<int64_t>(i)))[c] =
            static_cast<float>(scale * column.weight[i] * gradient);
    });
    total += sum_in_order(row_loss);
  }
  return total;
}

}  // namespace moltide
