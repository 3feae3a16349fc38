// Once shapes have been seen, a pass and a step ask the system for no memory.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "core/parallel.h"
#include "tiny_model.h"

namespace {
std::atomic<int64_t> allocations{0};

void* counted(size_t bytes, size_t alignment) {
  ++allocations;
  void* p = nullptr;
  if (posix_memalign(&p, alignment, bytes ? bytes : 1) != 0) throw std::bad_alloc();
  return p;
}
}  // namespace

// The engine's two ways to memory: these, and aligned_alloc, which the linker hands over to us.
void* operator new(size_t bytes) {
  return counted(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new[](size_t bytes) {
  return counted(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
  std::free(p);
}
extern "C" {
void* __real_aligned_alloc(size_t alignment, size_t bytes);
void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}
}

namespace moltide {
namespace {

// Allocations of the third call: the first two see the shapes.
template <class Call>
int64_t allocations_of(Call call) {
  call();
  call();
  const int64_t before = allocations;
  call();
  return allocations - before;
}

EncoderConfig small() {
  EncoderConfig c = tiny_config(4, 8);
  c.token_dropout = true;
  return c;
}

std::vector<EncoderConfig> all_kinds() {
  std::vector<EncoderConfig> kinds = other_kinds(4, 8);
  kinds.push_back(small());
  return kinds;
}

class Allocations : public ::testing::TestWithParam<DType> {
 protected:
  // Which thread computes what varies from call to call, and with it whose scratch has grown.
  Allocations() : before_(num_threads()) { set_num_threads(1); }
  ~Allocations() override { set_num_threads(before_); }

 private:
  int before_;
};

TEST(AllocationsCounted, NewAndAligned) {
  EXPECT_EQ(allocations_of([] { std::vector<int> made(100); }), 1);
  EXPECT_EQ(allocations_of([] { allocate_aligned(4096); }), 1);
}

TEST_P(Allocations, PassMakesNone) {
  for (const EncoderConfig& kind : all_kinds()) {
    Model model(kind, GetParam());
    HeadConfig head;
    head.hidden = 6;
    model.set_head(head, 1);
    model.add_adapter("a", 3, 6.0, 0.0, {"attn.q", "mlp.up"}, 5);
    const PackedBatch batch = tiny_batch({4, 140, 11});
    const auto segments = model.segments({"", "a", "a"}, batch);
    std::vector<float> out(static_cast<size_t>(batch.count() * 33));
    EXPECT_EQ(allocations_of([&] { model.pooled(batch, segments, Pool::mean, out.data()); }), 0);
    EXPECT_EQ(allocations_of([&] { model.hidden(batch, {}, false, out.data()); }), 0);
    EXPECT_EQ(allocations_of([&] { model.logits(batch, segments, out.data()); }), 0);
    const Tensor predicted = f32_tensor(out.data(), batch.batch(), 1);
    EXPECT_EQ(allocations_of([&] { model.predict(batch, segments, predicted); }), 0);
  }
}

TEST_P(Allocations, StepMakesNone) {
  for (const TrainMode mode : {TrainMode::full, TrainMode::lora, TrainMode::head})
    for (const Objective objective : {Objective::mse, Objective::cross_entropy, Objective::ranking,
                                      Objective::tobit, Objective::mlm}) {
      if (objective == Objective::mlm && mode == TrainMode::head) continue;
      Model model(small(), GetParam());
      HeadConfig head;
      head.dropout = 0.1;
      head.outputs = objective == Objective::cross_entropy ? 2 : 1;
      head.log_sigma = true;
      model.set_head(head, 3);
      model.add_adapter("a", 3, 6.0, 0.1, {"attn.q", "attn.out", "mlp.down"}, 5);
      TrainConfig config;
      config.mode = mode;
      config.adapter = "a";
      config.objective = objective;
      config.max_tokens = 40;
      config.masking.residues = {4, 11, 18};
      if (objective == Objective::mlm) config.head_weight = 0.5;
      Trainer trainer(model, config);
      const Objective learned = objective == Objective::mlm ? Objective::mse : objective;
      trainer.set_dataset(tiny_dataset({5, 17, 8, 33}, learned, head.outputs));
      // One micro-batch, then three.
      for (const std::vector<int64_t>& rows : {std::vector<int64_t>{0, 3}, {0, 1, 2, 3}})
        EXPECT_EQ(allocations_of([&] { trainer.step(rows); }), 0)
            << "mode " << static_cast<int>(mode) << ", " << objective_name(objective) << ", "
            << rows.size() << " rows";
    }
}

TEST_P(Allocations, StepOfAnyKindOfEncoderMakesNone) {
  for (const EncoderConfig& kind : other_kinds(4, 8))
    for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::blocks}) {
      Model model(kind, GetParam());
      TrainConfig config;
      config.objective = Objective::mlm;
      config.recompute = recompute;
      config.max_tokens = 40;
      config.masking.residues = {4, 11, 18};
      Trainer trainer(model, config);
      trainer.set_dataset(tiny_dataset({5, 17, 8, 33}, Objective::mlm, 1));
      for (const std::vector<int64_t>& rows : {std::vector<int64_t>{0, 3}, {0, 1, 2, 3}})
        EXPECT_EQ(allocations_of([&] { trainer.step(rows); }), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(DTypes, Allocations, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(dtype_name(info.param)); });

}  // namespace
}  // namespace moltide
