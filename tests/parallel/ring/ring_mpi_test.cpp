// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tugline/parallel/ring/ring_communicator.hpp"
#include "tugline/tests/parallel/conformance.hpp"
#include "tugline/tests/parallel/ring/ring_cases.hpp"
#include "tugline/tests/support/mpi_world.hpp"

namespace tugline {
namespace {

class RingConformance : public MpiWorldTest, public testing::WithParamInterface<ConformanceCase> {};
INSTANTIATE_TEST_SUITE_P(, RingConformance, testing::ValuesIn(conformance_cases()), [](const auto& info) { return info.param.name; });
TEST_P(RingConformance, Holds) {
  RingCommunicator ring(world_.communicator().duplicate());
  GetParam().run(ring);
}

class RingOverMpi : public MpiWorldTest, public testing::WithParamInterface<RingCase> {};
INSTANTIATE_TEST_SUITE_P(, RingOverMpi, testing::ValuesIn(ring_cases()), [](const auto& info) { return info.param.name; });
TEST_P(RingOverMpi, Holds) { GetParam().run(world_.communicator()); }

}  // namespace
}  // namespace tugline
