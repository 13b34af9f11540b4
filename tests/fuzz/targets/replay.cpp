// SPDX-License-Identifier: Apache-2.0
// Stands for libFuzzer: gives a target every file of a folder once. The last name printed is that of the file that broke it.
#include <algorithm>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "tugline/tests/fuzz/targets/target.hpp"

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: " << arguments[0] << " FOLDER\n";
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) files.push_back(entry.path());
  std::ranges::sort(files);
  if (files.empty()) {
    std::cerr << arguments[1] << " holds no inputs\n";
    return 1;
  }
  for (const std::filesystem::path& file : files) {
    std::cout << file.string() << std::endl;
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
    try {
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    } catch (const std::exception& error) {
      std::cerr << file.string() << ": " << error.what() << '\n';
      return 1;
    }
  }
}
