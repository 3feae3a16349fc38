#include "model/linear.h"

#include "core/philox.h"
#include "dropout/dropout.h"
#include "residual/residual.h"

namespace moltide {
namespace {

// The input of an adapter: x itself, or its dropped-out copy in scratch.
Tensor adapter_input(const PassContext& pass, const Adapter& adapter, Site site, const Tensor& x,
                     const Workspace& ws) {
  if (!pass.train || adapter.dropout == 0) return x;
  Tensor dropped = make_tensor(ws.lora_in.data, x.rows, x.cols, x.dtype);
  dropout(x, dropped, static_cast<float>(adapter.dropout), pass.seed,
          pass.stream(site.layer, RandomSite::lora_dropout, static_cast<int>(site.projection)));
  return dropped;
}

PackedMatrix packed(Packed& kept, const Param& w, bool transpose, DType dtype) {
  if (w.grad) return kept.get_passing(w, transpose, dtype);
  return kept.get(w, transpose, 1.0f, dtype);
}

}  // namespace

uint64_t PassContext::stream(int64_t layer, RandomSite site, int offset) const {
  return random_stream(draw, static_cast<uint32_t>(layer),
                       static_cast<uint32_t>(site) + static_cast<uint32_t>(offset));
}

bool has_adapter(const PassContext& pass, Site site) {
  for (const AdapterSegment& s : pass.segments)
    if (s.adapter->pair(site.layer, site.projection)) return true;
  return false;
}

void linear_forward(const PassContext& pass, Linear& linear, Site site, const Tensor& x,
                    const Tensor& y, Epilogue epilogue, const Tensor* pre, const Tensor& lora,
                    const Workspace& ws) {
  matmul(x, packed(linear.forward, *linear.weight, false, pass.act), linear.bias_value(), y,
         epilogue, pre);
  adapters_forward(pass, site, x, y, lora, ws);
}

void adapters_forward(const PassContext& pass, Site site, const Tensor& x, const Tensor& y,
                      const Tensor& lora, const Workspace& ws) {
  for (const AdapterSegment& s : pass.segments) {
    LoraPair* pair = s.adapter->pair(site.layer, site.projection);
    if (!pair) continue;
    const Tensor input = adapter_input(pass, *s.adapter, site, x.slice_rows(s.begin, s.end), ws);
    const Tensor down = lora.slice_rows(s.begin, s.end).slice_cols(0, s.adapter->rank);
    matmul(input, pair->a_forward.get(*pair->a, false, 1.0f, pass.act), nullptr, down);
    if (!y) continue;
    matmul(down, pair->b_forward.get(*pair->b, false, s.adapter->scale, pass.act), nullptr,
           y.slice_rows(s.begin, s.end), Epilogue::accumulate);
  }
}

bool reads_input(const PassContext& pass, const Linear& linear, Site site) {
  if (linear.weight && linear.weight->grad) return true;
  for (const AdapterSegment& s : pass.segments) {
    const LoraPair* pair = s.adapter->pair(site.layer, site.projection);
    if (pair && pair->a->grad) return true;
  }
  return false;
}

void linear_backward(const PassContext& pass, Linear& linear, Site site, const Tensor& x,
                     const Tensor& dy, const Tensor& dx, bool accumulate_dx, const Tensor& lora,
                     const Workspace& ws) {
  if (linear.weight->grad) {
    matmul_dw(dy, x, f32_tensor(linear.weight->grad, linear.out(), linear.in()),
              linear.bias ? linear.bias->grad : nullptr);
  }
  auto gradient_of_down = [&](const AdapterSegment& s) {
    return ws.dlora.slice_rows(s.begin, s.end).slice_cols(0, s.adapter->rank);
  };
  for (const AdapterSegment& s : pass.segments) {
    LoraPair* pair = s.adapter->pair(site.layer, site.projection);
    if (!pair) continue;
    const int64_t rank = s.adapter->rank;
    const Tensor down = lora.slice_rows(s.begin, s.end).slice_cols(0, rank);
    const Tensor dy_rows = dy.slice_rows(s.begin, s.end);
    const Tensor ddown = gradient_of_down(s);
    matmul(dy_rows, pair->b_backward.get(*pair->b, true, s.adapter->scale, pass.act), nullptr,
           ddown);
    if (!pair->a->grad) continue;
    const Tensor input = adapter_input(pass, *s.adapter, site, x.slice_rows(s.begin, s.end), ws);
    matmul_dw(dy_rows, down, f32_tensor(pair->b->grad, linear.out(), rank), nullptr,
              s.adapter->scale);
    matmul_dw(ddown, input, f32_tensor(pair->a->grad, rank, linear.in()), nullptr);
  }
  if (!dx) return;
  matmul(dy, packed(linear.backward, *linear.weight, true, pass.act), nullptr, dx,
         accumulate_dx ? Epilogue::accumulate : Epilogue::store);
  for (const AdapterSegment& s : pass.segments) {
    LoraPair* pair = s.adapter->pair(site.layer, site.projection);
    if (!pair) continue;
    const Tensor ddown = gradient_of_down(s);
    const PackedMatrix& a = pair->a_backward.get(*pair->a, true, 1.0f, pass.act);
    const Tensor dx_rows = dx.slice_rows(s.begin, s.end);
    if (!pass.train || s.adapter->dropout == 0) {
      matmul(ddown, a, nullptr, dx_rows, Epilogue::accumulate);
    } else {
      const Tensor part = make_tensor(ws.dlora_in.data, s.end - s.begin, linear.in(), DType::f32);
      matmul(ddown, a, nullptr, part);
      dropout(part, part, static_cast<float>(s.adapter->dropout), pass.seed,
              pass.stream(site.layer, RandomSite::lora_dropout, static_cast<int>(site.projection)));
      accumulate(part, dx_rows);
    }
  }
}

}  // namespace moltide
