#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "core/env.h"
#include "core/isa.h"

namespace moltide {
namespace {

TEST(Isa, PortableIsAlwaysThereAndOrderIsAscending) {
  const auto& isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::portable);
  for (size_t i = 1; i < isas.size(); ++i) EXPECT_LT(isas[i - 1], isas[i]);
}

TEST(Isa, EveryAvailableOneCanBeForced) {
  const std::string before = isa_name(active_isa());
  for (Isa isa : available_isas()) {
    set_isa(isa_name(isa));
    EXPECT_EQ(active_isa(), isa);
  }
  set_isa(before);
}

TEST(Isa, Bf16ProductsOfIntelWithoutTilesAreNotTheFastest) {
  std::vector<Isa> isas{Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16};
  EXPECT_EQ(fastest_isa(isas, false), Isa::avx512_bf16);
  EXPECT_EQ(fastest_isa(isas, true), Isa::avx512_vnni);
  isas.push_back(Isa::amx);
  EXPECT_EQ(fastest_isa(isas, true), Isa::amx);
  EXPECT_EQ(fastest_isa({Isa::portable}, true), Isa::portable);
}

TEST(Isa, AnUnknownNameIsRefusedWithTheChoices) {
  const Isa before = active_isa();
  try {
    set_isa("mmx");
    FAIL() << "nothing thrown";
  } catch (const std::invalid_argument& e) {
    const std::string message = e.what();
    EXPECT_NE(message.find("'mmx'"), std::string::npos) << message;
    EXPECT_NE(message.find("portable"), std::string::npos) << message;
  }
  EXPECT_EQ(active_isa(), before);
}

TEST(Env, TheMachineIsDescribed) {
  EXPECT_GE(default_num_threads(), 1);
  EXPECT_GT(available_memory(), int64_t{1} << 20);
  EXPECT_FALSE(cpu_model().empty());
}

}  // namespace
}  // namespace moltide
