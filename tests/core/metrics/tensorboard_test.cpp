// SPDX-License-Identifier: Apache-2.0
// Decodes the event file again with a reader of its own.
#include "tugline/core/metrics/tensorboard.hpp"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

template <class Int>
Int take(std::string_view& bytes) {
  Int value{};
  if (bytes.size() < sizeof value) throw std::runtime_error("too short");
  std::memcpy(&value, bytes.data(), sizeof value);  // the hosts of this test are little-endian, as the format is
  bytes.remove_prefix(sizeof value);
  return value;
}

std::string_view take_bytes(std::string_view& bytes, std::uint64_t size) {
  if (bytes.size() < size) throw std::runtime_error("too short");
  const std::string_view head = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return head;
}

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<std::uint8_t>(bytes);
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

struct Event {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version;
  std::map<std::string, float> scalars;
};

std::pair<std::string, float> decode_value(std::string_view bytes) {
  std::pair<std::string, float> value;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    if (key == (1 << 3 | 2))
      value.first = take_bytes(bytes, take_varint(bytes));
    else if (key == (2 << 3 | 5))
      value.second = take<float>(bytes);
    else
      throw std::runtime_error("unknown key in a value");
  }
  return value;
}

Event decode_event(std::string_view bytes) {
  Event event;
  while (!bytes.empty()) {
    switch (take_varint(bytes)) {
      case 1 << 3 | 1:
        event.wall_time = take<double>(bytes);
        break;
      case 2 << 3 | 0:
        event.step = static_cast<std::int64_t>(take_varint(bytes));
        break;
      case 3 << 3 | 2:
        event.file_version = take_bytes(bytes, take_varint(bytes));
        break;
      case 5 << 3 | 2: {
        std::string_view summary = take_bytes(bytes, take_varint(bytes));
        while (!summary.empty()) {
          if (take_varint(summary) != (1 << 3 | 2)) throw std::runtime_error("unknown key in a summary");
          event.scalars.insert(decode_value(take_bytes(summary, take_varint(summary))));
        }
        break;
      }
      default:
        throw std::runtime_error("unknown key in an event");
    }
  }
  return event;
}

std::vector<Event> decode_file(std::string_view bytes) {
  std::vector<Event> events;
  while (!bytes.empty()) {
    const std::string_view head = bytes.substr(0, 8);
    const auto size = take<std::uint64_t>(bytes);
    if (take<std::uint32_t>(bytes) != masked_crc32c(head)) throw std::runtime_error("wrong checksum of a length");
    const std::string_view data = take_bytes(bytes, size);
    if (take<std::uint32_t>(bytes) != masked_crc32c(data)) throw std::runtime_error("wrong checksum of data");
    events.push_back(decode_event(data));
  }
  return events;
}

std::uint32_t unmask(std::uint32_t masked) { return std::rotl(masked - 0xa282ead8u, 15); }

TEST(Crc32c, MatchesKnownVectors) {
  // RFC 3720, B.4, and the usual check value.
  EXPECT_EQ(unmask(masked_crc32c("123456789")), 0xE3069283u);
  EXPECT_EQ(unmask(masked_crc32c(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(unmask(masked_crc32c(std::string(32, '\xff'))), 0x62A8AB43u);
  EXPECT_EQ(unmask(masked_crc32c("")), 0u);
  // The mask itself: LevelDB's crc32c::Mask, here of crc 0.
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
}

class TensorBoardTest : public TemporaryFolder {
 protected:
  std::string only_file() const {
    std::vector<std::filesystem::path> files(std::filesystem::directory_iterator(folder_), {});
    EXPECT_EQ(files.size(), 1u);
    EXPECT_THAT(files.at(0).filename().string(), testing::StartsWith("events.out.tfevents.1700000000."));
    return read(files.at(0));
  }
  static double now() { return 1700000000.5; }
};

TEST_F(TensorBoardTest, WhatIsWrittenReadsBack) {
  TensorBoardWriter writer(folder_, now);
  StepRecord step;
  step.step = 300;  // two bytes as a varint
  step.loss = 0.5;
  step.accuracy = 0.25;
  step.lr = 0.1;
  step.samples_per_second = 1234;
  step.seconds.wait = 0.125;
  writer.step(step);
  writer.evaluation({.split = "validation", .step = 70000, .loss = 2, .accuracy = std::nullopt});
  const std::vector<Event> events = decode_file(only_file());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[1].wall_time, 1700000000.5);
  EXPECT_EQ(events[1].step, 300);
  EXPECT_EQ(events[1].scalars.at("train/loss"), 0.5f);
  EXPECT_EQ(events[1].scalars.at("train/accuracy"), 0.25f);
  EXPECT_EQ(events[1].scalars.at("seconds/wait"), 0.125f);
  EXPECT_FALSE(events[1].scalars.contains("train/gradient_norm"));
  EXPECT_EQ(events[2].step, 70000);
  EXPECT_EQ(events[2].scalars, (std::map<std::string, float>{{"validation/loss", 2.f}}));
}

TEST_F(TensorBoardTest, LongTagsManyScalarsAndNaN) {
  TensorBoardWriter writer(folder_, now);
  TensorBoardWriter::Scalars scalars{{"nan", std::numeric_limits<double>::quiet_NaN()}};
  for (int i = 0; i < 100; ++i) scalars.emplace_back(std::string(200, 'x') + std::to_string(i), i);
  writer.write(std::int64_t{1} << 40, scalars);
  const Event event = decode_file(only_file()).at(1);
  EXPECT_EQ(event.step, std::int64_t{1} << 40);
  EXPECT_EQ(event.scalars.size(), 101u);
  EXPECT_EQ(event.scalars.at(std::string(200, 'x') + "99"), 99.f);
  EXPECT_TRUE(std::isnan(event.scalars.at("nan")));
}

}  // namespace
}  // namespace tugline
