// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/gpu_driver.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tugline {
namespace {

class FakeDriver : public testing::Test {
 protected:
  ~FakeDriver() override {
    ::unsetenv("FAKE_GPUS");
    ::unsetenv("FAKE_GPU_ERROR");
  }
  static GpuDriver ask(const char* gpus, const char* error) {
    ::setenv("FAKE_GPUS", gpus, 1);
    ::setenv("FAKE_GPU_ERROR", error, 1);
    return gpu_driver(TUGLINE_FAKE_GPU_DRIVER);
  }
};

TEST_F(FakeDriver, ShowsItsGpusInOrder) {
  const GpuDriver driver = ask("2", "0");
  EXPECT_TRUE(driver.present);
  EXPECT_EQ(driver.cuda_version, 12040);
  EXPECT_EQ(driver.trouble, "");
  ASSERT_EQ(driver.gpus.size(), 2U);
  EXPECT_EQ(driver.gpus[0].name, "Fake 100");
  EXPECT_EQ(driver.gpus[1].name, "Fake 101");
  EXPECT_EQ(driver.gpus[1].memory_bytes, std::int64_t{101} << 30);
}

TEST_F(FakeDriver, ShowsWhereGpusAreAndHowTheyReachEachOther) {
  const GpuDriver driver = ask("4", "0");
  EXPECT_EQ(driver.gpus[3].pci_bus, "0000:67:00.0");
  ASSERT_EQ(driver.links.size(), 4U);
  EXPECT_EQ(driver.links[0], (std::vector{PeerLink::none, PeerLink::nvlink, PeerLink::pcie, PeerLink::none}));
  EXPECT_EQ(driver.links[2], (std::vector{PeerLink::pcie, PeerLink::pcie, PeerLink::none, PeerLink::nvlink}));
}

TEST_F(FakeDriver, SaysWhyItShowsNone) {
  EXPECT_EQ(ask("0", "0").trouble, "it counts none");
  EXPECT_EQ(ask("2", "3").trouble, "out of luck");
  EXPECT_TRUE(ask("2", "3").gpus.empty());
  EXPECT_EQ(ask("2", "4").trouble, "error 4");
  EXPECT_EQ(ask("2", "4").cuda_version, 12040);
}

TEST(GpuDriver, IsAbsentWhereTheLibraryIsAbsentOrAnotherOne) {
  EXPECT_FALSE(gpu_driver("libno-such-driver.so").present);
  EXPECT_FALSE(gpu_driver("libc.so.6").present);
}

TEST(GpuDriver, WritesVersionsAsPeopleDo) {
  EXPECT_EQ(cuda_version_text(13000), "13.0");
  EXPECT_EQ(cuda_version_text(12040), "12.4");
}

}  // namespace
}  // namespace tugline
