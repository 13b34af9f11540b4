// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>

namespace tugline {

/// Who called a communicator. Walking the stack takes microseconds; names are made of it only when somebody asks, which takes
/// milliseconds.
class CallSite {
 public:
  static CallSite here();
  /// "agree (world.cpp:98), from open_run (train_command.cpp:61), from train_in (train_command.cpp:160)": the three innermost functions
  /// that are neither the communicator's own nor the standard library's. Without -g, addresses ("tugline+0x1f3a") stand for lines; where
  /// libbacktrace is missing or the program is stripped, for all. A function that ends with its call may be missing: compilers jump out.
  std::string text() const;
  /// Return addresses, innermost first.
  std::span<const void* const> frames() const { return {frames_.data(), count_}; }

 private:
  std::array<const void*, 24> frames_{};
  std::size_t count_ = 0;
};

/// Of a return address, the function and the line that the call stands in: "agree (world.cpp:98)", or "tugline+0x1f3a" where names are missing.
std::string describe_call(const void* return_address);

/// A number for a call site: the same in all processes that run one program, wherever the system has put it. One thread at a time.
class SiteDigest {
 public:
  std::uint64_t operator()(const CallSite& site);

 private:
  std::unordered_map<const void*, std::size_t> places_;   // of addresses, in their module: slow to find out
};

/// "open_run::{lambda#1}::operator()" of "tugline::(anonymous namespace)::open_run(tugline::World&)::{lambda()#1}::operator()() const".
std::string without_arguments(const std::string& demangled);

}  // namespace tugline
