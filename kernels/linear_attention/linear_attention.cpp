#include "linear_attention/linear_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/check.h"
#include "core/denormals.h"
#include "core/isa.h"
#include "core/parallel.h"
#include "linear_attention/linear_attention_args.h"

namespace moltide {

MOLTIDE_CPU_OP(void, linear_attention_pack, const LinearAttentionArgs& args)
MOLTIDE_CPU_OP(void, linear_attention_fwd_head, const LinearAttentionArgs& args,
               const LinearAttentionHead& head)
MOLTIDE_CPU_OP(void, linear_attention_bwd_head, const LinearAttentionArgs& args,
               const LinearAttentionHead& head)
MOLTIDE_CPU_OP(void, linear_attention_probs_head, const LinearAttentionArgs& args,
               const LinearAttentionHead& head, float* probs)

namespace {

constexpr int64_t kMaxHeadDim = 256, kMaxFeatures = 256;

void check_matrix(const char* op, const char* name, const Tensor& x, const Tensor& q,
                  int64_t width) {
  MOLTIDE_CHECK(x.rows == q.rows && x.cols == width, op, ": ", name, " is (", x.rows, ", ", x.cols,
                "), expected (", q.rows, ", ", width, ")");
  MOLTIDE_CHECK(x.ld >= width, op, ": ", name, " has row stride ", x.ld, ", needs at least ",
                width);
  MOLTIDE_CHECK(x.dtype == q.dtype, op, ": ", name, " is ", dtype_name(x.dtype), " but q is ",
                dtype_name(q.dtype));
}

void check_params(const char* op, const LinearAttentionParams& p, int64_t tokens, const float* w) {
  MOLTIDE_CHECK(p.heads >= 1, op, ": got ", p.heads, " heads, allowed 1 or more");
  MOLTIDE_CHECK(p.head_dim >= 4 && p.head_dim <= kMaxHeadDim && p.head_dim % 4 == 0, op,
                ": got head dimension ", p.head_dim, ", allowed multiples of 4 from 4 to ",
                kMaxHeadDim);
  MOLTIDE_CHECK(p.features >= 1 && p.features <= kMaxFeatures, op, ": got ", p.features,
                " random features, allowed 1 to ", kMaxFeatures);
  MOLTIDE_CHECK(std::isfinite(p.eps) && p.eps > 0, op, ": got eps ", p.eps,
                ", allowed finite numbers above 0");
  MOLTIDE_CHECK(w, op, ": w of shape (", p.head_dim, ", ", p.features, ") has no memory");
  if (p.batch == 0) {
    MOLTIDE_CHECK(tokens == 0, op, ": no sequences but ", tokens, " tokens");
    return;
  }
  MOLTIDE_CHECK(p.cu_seqlens[0] == 0 && p.cu_seqlens[p.batch] == tokens, op,
                ": cu_seqlens runs from ", p.cu_seqlens[0], " to ", p.cu_seqlens[p.batch],
                ", expected 0 to ", tokens, " (tokens)");
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t len = int64_t{p.cu_seqlens[b + 1]} - p.cu_seqlens[b];
    MOLTIDE_CHECK(len >= 0, op, ": sequence ", b, " has length ", len, ", allowed 0 or more");
  }
}

LinearAttentionMatrix view(const Tensor& x) {
  return {x.data, x.ld};
}

LinearAttentionArgs make_args(const LinearAttentionParams& p, const Tensor& q, const Tensor& k,
                              const Tensor& v, const float* w) {
  LinearAttentionArgs args{};
  args.q = view(q);
  args.k = view(k);
  args.v = view(v);
  args.head_dim = p.head_dim;
  args.features = p.features;
  args.eps = p.eps;
  args.bf16 = q.dtype == DType::bf16;
  args.w = w;
  return args;
}

int64_t whole_vectors(int64_t n) {
  return (n + kWidestVector - 1) / kWidestVector * kWidestVector;
}

// Every thread takes the next heads of a sequence until none is left.
template <class F>
void run_heads(const LinearAttentionParams& p, LinearAttentionArgs& args, bool backward,
               F&& run_head) {
  const int64_t d = whole_vectors(p.head_dim), m = whole_vectors(p.features);
  const size_t panel = static_cast<size_t>(d * m) * sizeof(float);
  char* panels = static_cast<char*>(thread_scratch(Scratch::op, backward ? 2 * panel : panel));
  args.w_panel = reinterpret_cast<float*>(panels);
  args.wt_panel = backward ? reinterpret_cast<float*>(panels + panel) : nullptr;
  MOLTIDE_CPU_CALL(linear_attention_pack, args);
  // A task is some heads of a sequence, side by side; enough of them that threads end together.
  const int64_t heads = p.batch * p.heads, most = heads / even_load_tasks();
  const int64_t group = std::clamp<int64_t>(most, 1, p.heads);
  const int64_t groups = (p.heads + group - 1) / group, tasks = p.batch * groups;
  std::atomic<int64_t> next{0};
  parallel_for(std::min<int64_t>(num_threads(), tasks), 1, [&](int64_t, int64_t) {
    const FlushDenormals flush;
    for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) {
      const int64_t b = i / groups, start = p.cu_seqlens[b], len = p.cu_seqlens[b + 1] - start;
      const int64_t first = i % groups * group, last = std::min(first + group, p.heads);
      for (int64_t head = first; head < last && len > 0; ++head)
        run_head(LinearAttentionHead{start, len, head, head + 1 < last});
    }
  });
}

}  // namespace

void linear_attention_fwd(const LinearAttentionParams& params, const Tensor& q, const Tensor& k,
                          const Tensor& v, const float* w, const Tensor& o) {
  constexpr const char* op = "linear_attention_fwd";
  check_params(op, params, q.rows, w);
  const int64_t width = params.heads * params.head_dim;
  check_matrix(op, "q", q, q, width);
  check_matrix(op, "k", k, q, width);
  check_matrix(op, "v", v, q, width);
  check_matrix(op, "o", o, q, width);
  if (q.rows == 0) return;
  LinearAttentionArgs args = make_args(params, q, k, v, w);
  args.o = view(o);
  run_heads(params, args, false, [&](const LinearAttentionHead& head) {
    MOLTIDE_CPU_CALL(linear_attention_fwd_head, args, head);
  });
}

void linear_attention_bwd(const LinearAttentionParams& params, const Tensor& dout, const Tensor& q,
                          const Tensor& k, const Tensor& v, const float* w, const Tensor& dq,
                          const Tensor& dk, const Tensor& dv) {
  constexpr const char* op = "linear_attention_bwd";
  check_params(op, params, q.rows, w);
  const int64_t width = params.heads * params.head_dim;
  check_matrix(op, "q", q, q, width);
  check_matrix(op, "k", k, q, width);
  check_matrix(op, "v", v, q, width);
  check_matrix(op, "dout", dout, q, width);
  check_matrix(op, "dq", dq, q, width);
  check_matrix(op, "dk", dk, q, width);
  check_matrix(op, "dv", dv, q, width);
  if (q.rows == 0) return;
  LinearAttentionArgs args = make_args(params, q, k, v, w);
  args.dout = view(dout);
  args.dq = view(dq);
  args.dk = view(dk);
  args.dv = view(dv);
  run_heads(params, args, true, [&](const LinearAttentionHead& head) {
    MOLTIDE_CPU_CALL(linear_attention_bwd_head, args, head);
  });
}

void linear_attention_probs(const Tensor& q, const Tensor& k, const float* w, int64_t heads,
                            int64_t head_dim, int64_t features, float eps, float* probs) {
  constexpr const char* op = "linear_attention_probs";
  const int32_t cu_seqlens[2] = {0, static_cast<int32_t>(q.rows)};
  const LinearAttentionParams params{cu_seqlens, 1, heads, head_dim, features, eps};
  check_params(op, params, q.rows, w);
  check_matrix(op, "q", q, q, heads * head_dim);
  check_matrix(op, "k", k, q, heads * head_dim);
  if (q.rows == 0) return;
  LinearAttentionArgs args = make_args(params, q, k, k, w);
  run_heads(params, args, false, [&](const LinearAttentionHead& head) {
    MOLTIDE_CPU_CALL(linear_attention_probs_head, args, head,
                     probs + head.head * head.len * head.len);
  });
}

}  // namespace moltide
