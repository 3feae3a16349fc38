#include "attention/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "attention/attention_args.h"
#include "core/check.h"
#include "core/denormals.h"
#include "core/isa.h"
#include "core/parallel.h"

namespace moltide {

MOLTIDE_CPU_OP(void, attention_fwd_piece, const AttentionArgs& args, const AttentionPiece& piece)
MOLTIDE_CPU_OP(void, attention_bwd_piece, const AttentionArgs& args, const AttentionPiece& piece)
#if defined(__x86_64__)
namespace avx512_bf16 {
void attention_fwd_piece(const AttentionArgs& args, const AttentionPiece& piece);
void attention_bwd_piece(const AttentionArgs& args, const AttentionPiece& piece);
}  // namespace avx512_bf16
namespace amx {
void attention_fwd_piece(const AttentionArgs& args, const AttentionPiece& piece);
void attention_bwd_piece(const AttentionArgs& args, const AttentionPiece& piece);
}  // namespace amx
#endif
MOLTIDE_CPU_OP(void, attention_bwd_delta, const AttentionArgs& args, int64_t begin, int64_t end)
MOLTIDE_CPU_OP(int64_t, attention_probs_items, const AttentionArgs& args)
MOLTIDE_CPU_OP(void, attention_probs_item, const AttentionArgs& args, float* probs, int64_t item)

namespace {

constexpr double kLog2e = 1.44269504088896341;
constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxLength = int64_t{1} << 20;  // keys have 18 + 2 bits of the dropout counter

void check_heads(const char* op, int64_t heads, int64_t head_dim) {
  MOLTIDE_CHECK(heads >= 1, op, ": got ", heads, " heads, allowed 1 or more");
  MOLTIDE_CHECK(head_dim >= 4 && head_dim <= kMaxHeadDim && head_dim % 4 == 0, op,
                ": got head dimension ", head_dim, ", allowed multiples of 4 from 4 to ",
                kMaxHeadDim);
}

void check_matrix(const char* op, const char* name, const Tensor& x, const Tensor& q,
                  int64_t width) {
  MOLTIDE_CHECK(x.rows == q.rows && x.cols == width, op, ": ", name, " is (", x.rows, ", ", x.cols,
                "), expected (", q.rows, ", ", width, ")");
  MOLTIDE_CHECK(x.ld >= width, op, ": ", name, " has row stride ", x.ld, ", needs at least ",
                width);
  MOLTIDE_CHECK(x.dtype == q.dtype, op, ": ", name, " is ", dtype_name(x.dtype), " but q is ",
                dtype_name(q.dtype));
}

void check_params(const char* op, const AttentionParams& p, int64_t tokens) {
  check_heads(op, p.heads, p.head_dim);
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
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t len = int64_t{p.cu_seqlens[b + 1]} - p.cu_seqlens[b];
    MOLTIDE_CHECK(len >= 0 && len <= kMaxLength, op, ": sequence ", b, " has length ", len,
                  ", allowed 0 to ", kMaxLength);
  }
}

AttentionMatrix view(const Tensor& x) {
  return {x.data, x.ld};
}

AttentionArgs make_args(const AttentionParams& p, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& o) {
  AttentionArgs args{};
  args.q = view(q);
  args.k = view(k);
  args.v = view(v);
  args.o = view(o);
  args.tokens = q.rows;
  args.heads = p.heads;
  args.head_dim = p.head_dim;
  args.scale = p.scale;
  args.scale_log2e = static_cast<float>(p.scale * kLog2e);
  args.dropout = p.dropout;
  args.seed = p.seed;
  args.stream = p.stream;
  args.coarse = p.coarse;
  args.bf16 = q.dtype == DType::bf16;
  return args;
}

// How the heads of one sequence are cut into tasks, and the number of the first of them.
struct Plan {
  int64_t start, len, parts, tasks_per_head, first_task;
};

// Longest sequences first, so that the short ones fill the gaps at the end. A sequence that alone
// would keep a thread busy too long is cut; results do not depend on how.
int64_t make_plans(const AttentionParams& p, bool backward, Plan* plans) {
  double total = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t len = int64_t{p.cu_seqlens[b + 1]} - p.cu_seqlens[b];
    plans[b] = {p.cu_seqlens[b], len, 1, len > 0, 0};
    total += static_cast<double>(p.heads) * static_cast<double>(len) * static_cast<double>(len);
  }
  std::sort(plans, plans + p.batch, [](const Plan& a, const Plan& b) {
    return a.len != b.len ? a.len > b.len : a.start < b.start;
  });
  constexpr int64_t kSmallestPart = 256;  // rows; below it copies of the other side show
  const int threads = num_threads();
  int64_t tasks = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    Plan& plan = plans[b];
    const double work = static_cast<double>(plan.len) * static_cast<double>(plan.len);
    // A cut backward computes seven products for five: only where a thread's share is exceeded.
    const double share = total / threads / (backward ? 2 : 4);
    if (threads > 1 && work > share) {
      const int64_t wanted = static_cast<int64_t>(std::ceil(work / (total / threads / 4)));
      plan.parts = std::max<int64_t>(1, std::min(wanted, plan.len / kSmallestPart));
      if (backward && plan.parts > 1) plan.tasks_per_head = 2 * plan.parts;
      if (!backward) plan.tasks_per_head = plan.parts;
    }
    plan.first_task = tasks;
    tasks += p.heads * plan.tasks_per_head;
  }
  return tasks;
}

AttentionPiece piece_of(const Plan& plan, bool backward, int64_t task) {
  const int64_t head = task / plan.tasks_per_head, index = task % plan.tasks_per_head;
  if (!backward || plan.tasks_per_head == 1)
    return {AttentionTask::whole, plan.start, plan.len, head, index, plan.parts};
  const AttentionTask kind = index < plan.parts ? AttentionTask::dkv : AttentionTask::dq;
  return {kind, plan.start, plan.len, head, index % plan.parts, plan.parts};
}

// amx and avx512_bf16 have instructions for bf16 only; float32 is AVX-512's there.
void run_piece(const AttentionArgs& args, const AttentionPiece& piece, bool backward) {
#if defined(__x86_64__)
  if (args.bf16 && active_isa() == Isa::amx)
    return backward ? amx::attention_bwd_piece(args, piece) : amx::attention_fwd_piece(args, piece);
  if (args.bf16 && active_isa() == Isa::avx512_bf16)
    return backward ? avx512_bf16::attention_bwd_piece(args, piece)
                    : avx512_bf16::attention_fwd_piece(args, piece);
#endif
  backward ? MOLTIDE_CPU_CALL(attention_bwd_piece, args, piece)
           : MOLTIDE_CPU_CALL(attention_fwd_piece, args, piece);
}

// Every thread takes the next task until none is left.
void run_tasks(const AttentionParams& p, const AttentionArgs& args, bool backward) {
  Plan* plans =
      static_cast<Plan*>(thread_scratch(Scratch::op, static_cast<size_t>(p.batch) * sizeof(Plan)));
  const int64_t tasks = make_plans(p, backward, plans);
  std::atomic<int64_t> next{0};
  parallel_for(std::min<int64_t>(num_threads(), tasks), 1, [&](int64_t, int64_t) {
    const FlushDenormals flush;
    for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
      const Plan* after =
          std::upper_bound(plans, plans + p.batch, i,
                           [](int64_t task, const Plan& plan) { return task < plan.first_task; });
      // Empty sequences come last and own no task.
      const Plan& plan = *(after - 1);
      run_piece(args, piece_of(plan, backward, i - plan.first_task), backward);
    }
  });
}

}  // namespace

void attention_fwd(const AttentionParams& params, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& o, float* lse) {
  constexpr const char* op = "attention_fwd";
  check_params(op, params, q.rows);
  MOLTIDE_CHECK(!params.coarse || (params.dropout == 0 && !lse), op,
                ": coarse exponentials are for inference, without dropout and lse");
  const int64_t width = params.heads * params.head_dim;
  check_matrix(op, "q", q, q, width);
  check_matrix(op, "k", k, q, width);
  check_matrix(op, "v", v, q, width);
  check_matrix(op, "o", o, q, width);
  if (q.rows == 0) return;
  AttentionArgs args = make_args(params, q, k, v, o);
  args.lse = lse;
  run_tasks(params, args, false);
}

int64_t attention_bwd_workspace(int64_t tokens, int64_t heads) {
  return tokens * heads * static_cast<int64_t>(sizeof(float));
}

void attention_bwd(const AttentionParams& params, const Tensor& dout, const Tensor& q,
                   const Tensor& k, const Tensor& v, const Tensor& o, const float* lse,
                   const Tensor& dq, const Tensor& dk, const Tensor& dv, void* workspace) {
  constexpr const char* op = "attention_bwd";
  check_params(op, params, q.rows);
  const int64_t width = params.heads * params.head_dim;
  check_matrix(op, "q", q, q, width);
  check_matrix(op, "k", k, q, width);
  check_matrix(op, "v", v, q, width);
  check_matrix(op, "o", o, q, width);
  check_matrix(op, "dout", dout, q, width);
  check_matrix(op, "dq", dq, q, width);
  check_matrix(op, "dk", dk, q, width);
  check_matrix(op, "dv", dv, q, width);
  if (q.rows == 0) return;
  AttentionArgs args = make_args(params, q, k, v, o);
  args.dout = view(dout);
  args.dq = view(dq);
  args.dk = view(dk);
  args.dv = view(dv);
  args.lse = const_cast<float*>(lse);
  args.delta = static_cast<float*>(workspace);
  constexpr int64_t kGrain = 64;
  // avx512_bf16 sums delta with its own products.
  if (!args.bf16 || active_isa() != Isa::avx512_bf16) {
    parallel_for(q.rows, kGrain, [&](int64_t begin, int64_t end) {
      const FlushDenormals flush;
      MOLTIDE_CPU_CALL(attention_bwd_delta, args, begin, end);
    });
  }
  run_tasks(params, args, true);
}

void attention_probs(const Tensor& q, const Tensor& k, int64_t heads, int64_t head_dim, float scale,
                     float* probs) {
  constexpr const char* op = "attention_probs";
  check_heads(op, heads, head_dim);
  check_matrix(op, "q", q, q, heads * head_dim);
  check_matrix(op, "k", k, q, heads * head_dim);
  if (q.rows == 0) return;
  AttentionArgs args{};
  args.q = view(q);
  args.k = view(k);
  args.tokens = q.rows;
  args.heads = heads;
  args.head_dim = head_dim;
  args.scale_log2e = static_cast<float>(scale * kLog2e);
  args.bf16 = q.dtype == DType::bf16;
  parallel_for(MOLTIDE_CPU_CALL(attention_probs_items, args), 1, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t item = begin; item < end; ++item)
      MOLTIDE_CPU_CALL(attention_probs_item, args, probs, item);
  });
}

}  // namespace moltide
