// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace tugline::fuzz {

/// A folder of this process alone, gone with it, with a config in it that others extend or sweep: base.yaml.
class BaseFolder {
 public:
  BaseFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tugline-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
    folder_ = name;
    std::ofstream(folder_ / "base.yaml") << "seed: 5\noptim: {lr: 0.5, groups: [{match: '*.bias', lr_factor: 2}]}\n";
  }
  ~BaseFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  BaseFolder(const BaseFolder&) = delete;
  BaseFolder& operator=(const BaseFolder&) = delete;

  std::string file() const { return (folder_ / "fuzz.yaml").string(); }

 private:
  std::filesystem::path folder_;
};

}  // namespace tugline::fuzz
