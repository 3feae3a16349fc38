// What several threads do at once: ThreadSanitizer watches, and the bits must be those of one.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "tiny_model.h"

namespace moltide {
namespace {

std::unique_ptr<Model> model_with_values(DType act) {
  auto model = std::make_unique<Model>(tiny_config(3, 16), act);
  model->set_head({}, 1);
  model->add_adapter("a", 4, 8.0, 0.0, {"attn.q", "mlp.up"}, 5);
  randomise(*model, 0.2f);
  return model;
}

std::vector<float> pooled(Model& model) {
  const PackedBatch batch = tiny_batch({130, 3, 64, 17});
  std::vector<float> out(4 * 48);
  model.pooled(batch, model.segments({"", "a", "a", ""}, batch), Pool::mean, out.data());
  return out;
}

// The losses of some steps, the parallel kernels' own, and the values they end at.
std::vector<float> trained(DType act, TrainMode mode) {
  auto model = model_with_values(act);
  TrainConfig config;
  config.mode = mode;
  config.adapter = "a";
  config.objective = Objective::mse;
  config.lr = 1e-2;
  config.max_tokens = 150;
  Trainer trainer(*model, config);
  trainer.set_dataset(tiny_dataset({60, 17, 1, 140, 33}, Objective::mse, 1));
  std::vector<float> result;
  for (int i = 0; i < 3; ++i)
    result.push_back(static_cast<float>(trainer.step({0, 1, 2, 3, 4}).loss));
  for (Param* p : model->params()) result.insert(result.end(), p->value, p->value + p->size());
  return result;
}

class Concurrency : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = num_threads();
    set_num_threads(3);
  }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = 1;
};

TEST_F(Concurrency, TrainersInSeveralThreads) {
  for (const DType act : {DType::f32, DType::bf16}) {
    set_num_threads(1);
    const auto full = trained(act, TrainMode::full), lora = trained(act, TrainMode::lora);
    set_num_threads(3);
    std::vector<float> a, b, c;
    std::thread one([&] { a = trained(act, TrainMode::full); });
    std::thread two([&] { b = trained(act, TrainMode::lora); });
    c = trained(act, TrainMode::full);
    one.join();
    two.join();
    EXPECT_EQ(a, full);
    EXPECT_EQ(b, lora);
    EXPECT_EQ(c, full);
  }
}

TEST_F(Concurrency, OneModelFromSeveralThreads) {
  auto model = model_with_values(DType::f32);
  const auto expected = pooled(*model);
  // The first use packs the weights: begin with a model that has packed none.
  model = model_with_values(DType::f32);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 4; ++i) wrong += pooled(*model) != expected;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(Concurrency, TheNumberOfThreadsChangesMeanwhile) {
  auto first = model_with_values(DType::f32), second = model_with_values(DType::bf16);
  const auto expected = pooled(*first), other = pooled(*second);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread one([&] {
    while (!stop) wrong += pooled(*first) != expected;
  });
  std::thread two([&] {
    while (!stop) wrong += pooled(*second) != other;
  });
  for (int i = 0; i < 60; ++i) {
    set_num_threads(1 + i % 5);
    std::this_thread::yield();
  }
  stop = true;
  one.join();
  two.join();
  EXPECT_EQ(wrong.load(), 0);
}

// The pool is in the middle of another thread's jobs when the process forks.
TEST_F(Concurrency, AForkWhileThePoolIsBusy) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow threads started after a fork";
#elif defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer's allocator stays locked in a child if a thread was in it";
#endif
  auto busy = model_with_values(DType::f32), own = model_with_values(DType::f32);
  const auto expected = pooled(*own);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) pooled(*busy);
  });
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      _exit(pooled(*own) == expected ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "child ended by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  stop = true;
  other.join();
}

}  // namespace
}  // namespace moltide
