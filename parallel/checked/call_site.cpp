// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/checked/call_site.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include <boost/container_hash/hash.hpp>
#include <boost/stacktrace.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tugline {
namespace {

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

void erase_all(std::string& text, std::string_view what) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at)) text.erase(at, what.size());
}

/// "tugline+0x1f3a", for addr2line.
std::string place_in_module(const char* address) {
  Dl_info module{};
  if (dladdr(address, &module) == 0) return fmt::format("{}", static_cast<const void*>(address));
  return fmt::format("{}+0x{:x}", file_name(module.dli_fname), address - static_cast<const char*>(module.dli_fbase));
}

bool says_nothing(std::string_view place) {
  constexpr std::string_view kOurs[] = {"CallSite::", "CheckedCommunicator::", "Communicator::", "boost::stacktrace::", "std::"};
  return std::any_of(std::begin(kOurs), std::end(kOurs), [&](std::string_view start) { return place.starts_with(start); });
}

}  // namespace

std::string describe_call(const void* return_address) {
  const char* const call = static_cast<const char*>(return_address) - 1;   // what follows it may be another line
  const boost::stacktrace::frame frame(call);
  const std::string name = without_arguments(frame.name());
  if (name.empty()) return place_in_module(call);
  const std::size_t line = frame.source_line();
  return fmt::format("{} ({})", name, line == 0 ? place_in_module(call) : fmt::format("{}:{}", file_name(frame.source_file()), line));
}

CallSite CallSite::here() {
  CallSite site;
  const boost::stacktrace::stacktrace stack(0, site.frames_.size());
  for (const auto& frame : stack) site.frames_[site.count_++] = frame.address();
  return site;
}

std::string CallSite::text() const {
  // Without names our own frames, which come first, cannot be told from the caller's: more are shown.
  const std::size_t most = count_ > 0 && says_nothing(describe_call(frames_[0])) ? 3 : 8;
  std::vector<std::string> places;
  for (const void* address : frames()) {
    const std::string place = describe_call(address);
    if (says_nothing(place)) continue;
    places.push_back(place);
    if (places.size() == most || place.starts_with("main (")) break;
  }
  return places.empty() ? "an unknown place" : fmt::format("{}", fmt::join(places, ", from "));
}

std::uint64_t SiteDigest::operator()(const CallSite& site) {
  std::size_t digest = 0;
  for (const void* address : site.frames()) {
    const auto [entry, is_new] = places_.try_emplace(address, 0);
    if (Dl_info module{}; is_new && dladdr(address, &module) != 0) {
      entry->second = static_cast<std::size_t>(static_cast<const char*>(address) - static_cast<const char*>(module.dli_fbase));
    }
    boost::hash_combine(digest, entry->second);
  }
  return digest;
}

std::string without_arguments(const std::string& demangled) {
  std::string name = demangled.substr(0, demangled.find(" [clone"));
  for (const std::string_view noise : {"(anonymous namespace)::", "[abi:cxx11]"}) erase_all(name, noise);
  constexpr std::string_view kCall = "operator()";
  std::string result;
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (depth == 0 && std::string_view(name).substr(i).starts_with(kCall)) {
      result += kCall;
      i += kCall.size() - 1;
    } else if (name[i] == '(' || name[i] == '<') {
      ++depth;
    } else if (name[i] == ')' || name[i] == '>') {
      --depth;
    } else if (depth == 0) {
      result += name[i];
    }
  }
  if (depth != 0) return demangled;   // operator< and the like
  if (result.ends_with(" const")) result.resize(result.size() - std::string_view(" const").size());
  result.erase(0, result.rfind(' ') + 1);   // templates are named with what they return
  erase_all(result, "tugline::");
  return result;
}

}  // namespace tugline
