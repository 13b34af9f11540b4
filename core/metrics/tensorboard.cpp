// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/tensorboard.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <boost/crc.hpp>

#include "tugline/core/metrics/event_log.hpp"

namespace tugline {
namespace {

template <class Int>
void append_little_endian(std::string& out, Int value) {
  for (std::size_t i = 0; i < sizeof(Int); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// Protocol buffers by hand: Event { 1 wall_time: double, 2 step: varint, 3 file_version: string, 5 summary: Summary },
// Summary { 1 value: repeated Value }, Value { 1 tag: string, 2 simple_value: float }.
enum class Wire : unsigned { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, unsigned field, Wire wire) {
  append_varint(out, field << 3 | static_cast<unsigned>(wire));
}

void append_bytes(std::string& out, unsigned field, std::string_view bytes) {
  append_key(out, field, Wire::bytes);
  append_varint(out, bytes.size());
  out += bytes;
}

std::string event_head(double wall_time) {
  std::string event;
  append_key(event, 1, Wire::fixed64);
  append_little_endian(event, std::bit_cast<std::uint64_t>(wall_time));
  return event;
}

/// TFRecord: length, its checksum, the data, its checksum.
std::string record(std::string_view data) {
  std::string out;
  append_little_endian<std::uint64_t>(out, data.size());
  append_little_endian(out, masked_crc32c(out));
  out += data;
  append_little_endian(out, masked_crc32c(data));
  return out;
}

std::filesystem::path file_name(const std::filesystem::path& folder, double now) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder / fmt::format("events.out.tfevents.{:010}.{}.{}", static_cast<std::int64_t>(now), host.data(), ::getpid());
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return std::rotr(static_cast<std::uint32_t>(crc.checksum()), 15) + 0xa282ead8u;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, std::function<double()> now)
    : now_(now ? std::move(now) : unix_seconds), file_(file_name(folder, now_())) {
  std::string event = event_head(now_());
  append_bytes(event, 3, "brain.Event:2");
  file_.append(record(event));
}

void TensorBoardWriter::write(std::int64_t step, const Scalars& scalars) {
  std::string event = event_head(now_()), summary;
  append_key(event, 2, Wire::varint);
  append_varint(event, static_cast<std::uint64_t>(step));
  for (const auto& [tag, scalar] : scalars) {
    std::string value;
    append_bytes(value, 1, tag);
    append_key(value, 2, Wire::fixed32);
    append_little_endian(value, std::bit_cast<std::uint32_t>(static_cast<float>(scalar)));
    append_bytes(summary, 1, value);
  }
  append_bytes(event, 5, summary);
  file_.append(record(event));
}

void TensorBoardWriter::step(const StepRecord& record) {
  Scalars scalars{{"train/loss", record.loss},
                  {"train/lr", record.lr},
                  {"train/samples_per_second", record.samples_per_second},
                  {"seconds/data", record.seconds.data},
                  {"seconds/compute", record.seconds.compute},
                  {"seconds/exposed", record.seconds.exposed},
                  {"seconds/wait", record.seconds.wait},
                  {"seconds/optimizer", record.seconds.optimizer}};
  if (record.accuracy) scalars.emplace_back("train/accuracy", *record.accuracy);
  if (record.gradient_norm) scalars.emplace_back("train/gradient_norm", *record.gradient_norm);
  write(record.step, scalars);
}

void TensorBoardWriter::evaluation(const EvalRecord& record) {
  Scalars scalars{{record.split + "/loss", record.loss}};
  if (record.accuracy) scalars.emplace_back(record.split + "/accuracy", *record.accuracy);
  write(record.step, scalars);
}

}  // namespace tugline
