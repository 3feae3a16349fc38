// Buffers of exactly the elements an op may touch. The address sanitizer sees one element past
// either end, but not through masked vector instructions: without it buffers end at a page that
// must not be touched. Canaries watch the gaps between strided rows.
#pragma once
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/isa.h"
#include "core/tensor.h"

namespace moltide::test {

// Values in [-1, 1], a function of the seed and the place.
inline float value(uint32_t seed, int64_t i) {
  uint32_t h = seed * 2654435761u + static_cast<uint32_t>(i) * 40503u + 12345u;
  h ^= h >> 15;
  h *= 2246822519u;
  h ^= h >> 13;
  return static_cast<float>(h & 0xffffu) / 32767.5f - 1.0f;
}

class Block {
 public:
#if defined(__SANITIZE_ADDRESS__)
  explicit Block(size_t bytes) : data_(new char[bytes]) {}
  ~Block() { delete[] data_; }
#else
  explicit Block(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (bytes + page - 1) / page * page + page;
    void* p = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<char*>(p);
    data_ = base_ + mapped_ - page - bytes;
    if (mprotect(base_ + mapped_ - page, page, PROT_NONE) != 0) throw std::bad_alloc();
  }
  ~Block() { munmap(base_, mapped_); }
#endif
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  char* get() const { return data_; }

 private:
#if !defined(__SANITIZE_ADDRESS__)
  char* base_ = nullptr;
  size_t mapped_ = 0;
#endif
  char* data_ = nullptr;
};

class Rows {
 public:
  Rows(int64_t rows, int64_t cols, DType dtype = DType::f32, int64_t gap = 0, uint32_t seed = 1)
      : rows_(rows), cols_(cols), ld_(cols + gap), dtype_(dtype) {
    elements_ = rows == 0 ? 0 : (rows - 1) * ld_ + cols;
    data_ = std::make_unique<Block>(static_cast<size_t>(elements_ * dtype_bytes(dtype)));
    for (int64_t i = 0; i < elements_; ++i) set(i, in_gap(i) ? kCanary : value(seed, i));
  }

  operator Tensor() const { return {data(), rows_, cols_, ld_, dtype_, Device::cpu}; }
  Tensor view() const { return *this; }
  float* f32() const { return reinterpret_cast<float*>(data()); }
  float get(int64_t i) const {
    return dtype_ == DType::f32 ? f32()[i] : bf16_to_float(reinterpret_cast<bf16*>(data())[i]);
  }

  // Every element finite, every gap as it was.
  void expect_sound(const char* name) const {
    for (int64_t i = 0; i < elements_; ++i) {
      if (in_gap(i))
        ASSERT_EQ(get(i), kCanary) << name << ": gap at " << i;
      else
        ASSERT_TRUE(std::isfinite(get(i))) << name << ": element " << i << " is " << get(i);
    }
  }

 private:
  static constexpr float kCanary = -12288.0f;  // exact in bf16
  char* data() const { return data_->get(); }
  bool in_gap(int64_t i) const { return i % ld_ >= cols_; }
  void set(int64_t i, float x) {
    if (dtype_ == DType::f32)
      f32()[i] = x;
    else
      reinterpret_cast<bf16*>(data())[i] = float_to_bf16(x);
  }

  int64_t rows_, cols_, ld_, elements_ = 0;
  DType dtype_;
  std::unique_ptr<Block> data_;
};

template <class T>
std::unique_ptr<T[]> exactly(const std::vector<T>& values) {
  std::unique_ptr<T[]> copy(new T[values.size()]);
  for (size_t i = 0; i < values.size(); ++i) copy[i] = values[i];
  return copy;
}

struct AlignedDelete {
  void operator()(char* p) const { ::operator delete(p, std::align_val_t{64}); }
};
using AlignedBytes = std::unique_ptr<char, AlignedDelete>;
inline AlignedBytes aligned_bytes(int64_t n) {
  return AlignedBytes(
      static_cast<char*>(::operator new(static_cast<size_t>(n), std::align_val_t{64})));
}

// Runs on each instruction set of this machine, in float32 and in bf16.
class EachIsa : public ::testing::TestWithParam<std::tuple<Isa, DType>> {
 protected:
  EachIsa() : before_(isa_name(active_isa())) { set_isa(isa_name(std::get<0>(GetParam()))); }
  ~EachIsa() override { set_isa(before_); }
  DType dtype() const { return std::get<1>(GetParam()); }

 private:
  std::string before_;
};

inline std::string each_isa_name(const ::testing::TestParamInfo<std::tuple<Isa, DType>>& info) {
  return std::string(isa_name(std::get<0>(info.param))) + "_" + dtype_name(std::get<1>(info.param));
}

}  // namespace moltide::test

#define MOLTIDE_EACH_ISA(Fixture)                                                           \
  INSTANTIATE_TEST_SUITE_P(                                                                 \
      Cpu, Fixture,                                                                         \
      ::testing::Combine(::testing::ValuesIn(::moltide::available_isas()),                  \
                         ::testing::Values(::moltide::DType::f32, ::moltide::DType::bf16)), \
      ::moltide::test::each_isa_name)
