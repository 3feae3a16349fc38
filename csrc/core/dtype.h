// Element types. Functions are `static inline`: objects compiled per instruction set must not share
// code.
#pragma once
#include <cstdint>
#include <cstring>

namespace moltide {

enum class DType : uint8_t { f32, bf16 };
enum class Device : uint8_t { cpu, cuda };

struct bf16 {
  uint16_t bits;
};

static inline int64_t dtype_bytes(DType t) {
  return t == DType::f32 ? 4 : 2;
}

static inline const char* dtype_name(DType t) {
  return t == DType::f32 ? "float32" : "bf16";
}

static inline float bf16_to_float(bf16 x) {
  uint32_t u = static_cast<uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}

// Round to nearest even; NaN stays NaN.
static inline bf16 float_to_bf16(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return bf16{static_cast<uint16_t>((u >> 16) | 0x40u)};
  u += 0x7fffu + ((u >> 16) & 1u);
  return bf16{static_cast<uint16_t>(u >> 16)};
}

}  // namespace moltide
