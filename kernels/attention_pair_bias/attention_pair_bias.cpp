#include "attention_pair_bias/attention_pair_bias.h"

#include <atomic>
#include <cmath>

#include "attention_pair_bias/attention_pair_bias_args.h"
#include "core/denormals.h"
#include "core/expect.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, attention_pair_bias_fwd_heads, const PairBiasArgs& args,
               const PairBiasTask& task)
MOLTIDE_CPU_OP(void, attention_pair_bias_bwd_heads, const PairBiasArgs& args,
               const PairBiasTask& task)
MOLTIDE_CPU_OP(void, attention_pair_bias_probs_head, const float* scores, int64_t len, float* probs)

namespace {

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxLength = int64_t{1} << 20;  // keys have 18 + 2 bits of the dropout counter

int64_t length_of(const PairBiasParams& p, int64_t b) {
  return int64_t{p.cu_seqlens[b + 1]} - p.cu_seqlens[b];
}

void check_params(const char* op, const PairBiasParams& p, int64_t tokens) {
  MOLTIDE_CHECK(p.heads >= 1, op, ": got ", p.heads, " heads, allowed 1 or more");
  MOLTIDE_CHECK(p.head_dim >= 4 && p.head_dim <= kMaxHeadDim && p.head_dim % 4 == 0, op,
                ": got head dimension ", p.head_dim, ", allowed multiples of 4 from 4 to ",
                kMaxHeadDim);
  MOLTIDE_CHECK(std::isfinite(p.scale), op, ": got scale ", p.scale, ", allowed finite numbers");
  MOLTIDE_CHECK(p.dropout >= 0.0f && p.dropout < 1.0f, op, ": got dropout ", p.dropout,
                ", allowed 0 <= p < 1");
  if (p.batch == 0) {
    MOLTIDE_CHECK(tokens == 0, op, ": no sequences but ", tokens, " tokens");
    return;
  }
  MOLTIDE_CHECK(p.cu_seqlens[0] == 0 && p.cu_seqlens[p.batch] == tokens, op,
                ": cu_seqlens runs from ", p.cu_seqlens[0], " to ", p.cu_seqlens[p.batch],
                ", expected 0 to ", tokens, " (tokens)");
  MOLTIDE_CHECK(p.pair_starts[0] == 0, op, ": pair_starts begins with ", p.pair_starts[0],
                ", expected 0");
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t len = length_of(p, b), pairs = p.pair_starts[b + 1] - p.pair_starts[b];
    MOLTIDE_CHECK(len >= 0 && len <= kMaxLength, op, ": sequence ", b, " has length ", len,
                  ", allowed 0 to ", kMaxLength);
    MOLTIDE_CHECK(pairs == len * len, op, ": sequence ", b, " has ", len, " tokens and ", pairs,
                  " pairs, expected ", len * len);
  }
}

void check_matrix(const char* op, const char* name, const Tensor& x, const Tensor& q,
                  int64_t width) {
  expect_shape(op, name, x, q.rows, width);
  MOLTIDE_CHECK(x.dtype == q.dtype, op, ": ", name, " is ", dtype_name(x.dtype), " but q is ",
                dtype_name(q.dtype));
}

PairBiasMatrix view(const Tensor& x) {
  return {x.data, x.ld};
}

PairBiasArgs make_args(const char* op, const PairBiasParams& p, const Tensor& q, const Tensor& k,
                       const Tensor& v) {
  check_params(op, p, q.rows);
  const int64_t width = p.heads * p.head_dim;
  check_matrix(op, "q", q, q, width);
  check_matrix(op, "k", k, q, width);
  check_matrix(op, "v", v, q, width);
  PairBiasArgs args{};
  args.q = view(q);
  args.k = view(k);
  args.v = view(v);
  args.tokens = q.rows;
  args.heads = p.heads;
  args.head_dim = p.head_dim;
  args.scale = p.scale;
  args.dropout = p.dropout;
  args.seed = p.seed;
  args.stream = p.stream;
  args.bf16 = q.dtype == DType::bf16;
  return args;
}

// Heads of a sequence that one task takes: enough work to be worth a task.
int64_t heads_per_task(const PairBiasParams& p, int64_t len) {
  constexpr int64_t kLeast = 32768;  // pairs times heads, about 20 us
  const int64_t wanted = kLeast / (len * len + 1) + 1;
  return wanted < p.heads ? wanted : p.heads;
}

// Every thread takes the next task until none is left.
template <class Run>
void run_tasks(const PairBiasParams& p, Run run) {
  int64_t* first =
      static_cast<int64_t*>(thread_scratch(Scratch::op, static_cast<size_t>(p.batch + 1) * 8));
  int64_t tasks = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    first[b] = tasks;
    const int64_t len = length_of(p, b), each = heads_per_task(p, len);
    if (len > 0) tasks += (p.heads + each - 1) / each;
  }
  first[p.batch] = tasks;
  std::atomic<int64_t> next{0};
  parallel_for(tasks < num_threads() ? tasks : num_threads(), 1, [&](int64_t, int64_t) {
    const FlushDenormals flush;
    int64_t b = 0;
    for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
      while (first[b + 1] <= i) ++b;
      const int64_t len = length_of(p, b), each = heads_per_task(p, len);
      const int64_t begin = (i - first[b]) * each;
      const int64_t end = begin + each < p.heads ? begin + each : p.heads;
      run(PairBiasTask{p.cu_seqlens[b], len, p.pair_starts[b], begin, end});
    }
  });
}

}  // namespace

void attention_pair_bias_fwd(const PairBiasParams& params, const Tensor& q, const Tensor& k,
                             const Tensor& v, const float* bias, const Tensor& o, float* scores,
                             float* statistics) {
  constexpr const char* op = "attention_pair_bias_fwd";
  PairBiasArgs args = make_args(op, params, q, k, v);
  check_matrix(op, "o", o, q, params.heads * params.head_dim);
  if (q.rows == 0) return;
  expect_memory(op, "bias", bias, params.heads * params.pair_starts[params.batch]);
  expect_memory(op, "scores", scores, params.heads * params.pair_starts[params.batch]);
  args.o = view(o);
  args.bias = bias;
  args.scores = scores;
  args.statistics = statistics;
  run_tasks(params, [&](const PairBiasTask& task) {
    MOLTIDE_CPU_CALL(attention_pair_bias_fwd_heads, args, task);
  });
}

void attention_pair_bias_bwd(const PairBiasParams& params, const Tensor& dout, const Tensor& q,
                             const Tensor& k, const Tensor& v, const float* scores,
                             const float* statistics, const Tensor& dq, const Tensor& dk,
                             const Tensor& dv, float* dscores, bool accumulate) {
  constexpr const char* op = "attention_pair_bias_bwd";
  PairBiasArgs args = make_args(op, params, q, k, v);
  const int64_t width = params.heads * params.head_dim;
  check_matrix(op, "dout", dout, q, width);
  check_matrix(op, "dq", dq, q, width);
  check_matrix(op, "dk", dk, q, width);
  check_matrix(op, "dv", dv, q, width);
  if (q.rows == 0) return;
  expect_memory(op, "scores", scores, params.heads * params.pair_starts[params.batch]);
  expect_memory(op, "dscores", dscores, params.heads * params.pair_starts[params.batch]);
  expect_memory(op, "statistics", statistics, 2 * params.heads * q.rows);
  args.dout = view(dout);
  args.dq = view(dq);
  args.dk = view(dk);
  args.dv = view(dv);
  args.scores = const_cast<float*>(scores);
  args.statistics = const_cast<float*>(statistics);
  args.dscores = dscores;
  args.accumulate = accumulate;
  run_tasks(params, [&](const PairBiasTask& task) {
    MOLTIDE_CPU_CALL(attention_pair_bias_bwd_heads, args, task);
  });
}

void attention_pair_bias_probs(const float* scores, int64_t heads, int64_t length, float* probs) {
  constexpr const char* op = "attention_pair_bias_probs";
  MOLTIDE_CHECK(heads >= 0 && length >= 0, op, ": got ", heads, " heads and length ", length,
                ", allowed 0 or more");
  const int64_t plane = length * length;
  expect_memory(op, "scores", scores, heads * plane);
  expect_memory(op, "probs", probs, heads * plane);
  if (plane == 0) return;
  parallel_for(heads, row_grain(plane), [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t h = begin; h < end; ++h)
      MOLTIDE_CPU_CALL(attention_pair_bias_probs_head, scores + h * plane, length,
                       probs + h * plane);
  });
}

}  // namespace moltide
