// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/frame.hpp"

#include <fmt/format.h>

#include <boost/crc.hpp>
#include <charconv>
#include <optional>

namespace tugline::sweep {
namespace {

constexpr std::string_view kMagic = "tugline 1 ";
constexpr std::size_t kLengthDigits = 10;
constexpr std::size_t kHeader = kMagic.size() + kLengthDigits + 10;   // a space, eight digits of the checksum, the end of the line

/// CRC32C: the Castagnoli polynomial, as in iSCSI (RFC 3720).
std::uint32_t crc32c(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

std::string header(std::string_view payload) { return fmt::format("{}{:010} {:08x}\n", kMagic, payload.size(), crc32c(payload)); }

/// Whether a header that tells a length is, to the letter, the payload's: made without formatting one, since there are so many.
bool matches(std::string_view header, std::string_view payload) {
  const char* at = header.data() + kMagic.size() + kLengthDigits;
  if (*at++ != ' ' || header.back() != '\n') return false;
  const std::uint32_t checksum = crc32c(payload);
  for (int bit = 28; bit >= 0; bit -= 4) {
    if (*at++ != "0123456789abcdef"[checksum >> bit & 15]) return false;
  }
  return true;
}

/// What a header says of the payload's length; nullopt: it is none.
std::optional<std::size_t> told_length(std::string_view text) {
  if (text.size() < kHeader || !text.starts_with(kMagic)) return std::nullopt;
  const char* const first = text.data() + kMagic.size();
  std::size_t length = 0;
  const auto [end, error] = std::from_chars(first, first + kLengthDigits, length);
  if (error != std::errc() || end != first + kLengthDigits) return std::nullopt;
  return length;
}

/// The payload of the frame that begins at `at`; nullopt: it is not whole.
std::optional<std::string_view> frame_at(std::string_view log, std::size_t at) {
  const std::string_view text = log.substr(at);
  const auto length = told_length(text);
  if (!length || text.size() - kHeader < *length) return std::nullopt;
  const auto payload = unframe(text.substr(0, kHeader + *length));
  return std::holds_alternative<std::string_view>(payload) ? std::optional(std::get<std::string_view>(payload)) : std::nullopt;
}

}  // namespace

std::string frame(std::string_view payload) { return header(payload).append(payload); }

std::variant<std::string_view, Damage> unframe(std::string_view text) {
  const auto length = told_length(text);
  if (!length && kMagic.starts_with(text.substr(0, kMagic.size())) && text.size() < kHeader) {
    return Damage{fmt::format("is cut: it ends after {} bytes", text.size())};
  }
  if (!length) return Damage{fmt::format("does not begin with \"{}\" and a length", kMagic)};
  const std::string_view payload = text.substr(kHeader);
  if (payload.size() < *length) return Damage{fmt::format("is cut: {} bytes of {} are there", payload.size(), *length)};
  if (payload.size() > *length) return Damage{fmt::format("is too long: {} bytes in place of {}", payload.size(), *length)};
  if (!matches(text.substr(0, kHeader), payload)) return Damage{"does not match its checksum"};
  return payload;
}

std::optional<std::string_view> next_frame(std::string_view log, std::size_t& at) {
  for (std::size_t begin = log.find(kMagic, at); begin != log.npos; begin = log.find(kMagic, begin + 1)) {
    const auto payload = frame_at(log, begin);
    if (!payload) continue;
    at = begin + kHeader + payload->size();
    return payload;
  }
  return std::nullopt;
}

std::string_view newest_frame(std::string_view log) {
  for (std::size_t at = log.rfind(kMagic); at != log.npos; at = at == 0 ? log.npos : log.rfind(kMagic, at - 1)) {
    if (const auto payload = frame_at(log, at)) return *payload;
  }
  return {};
}

}  // namespace tugline::sweep
