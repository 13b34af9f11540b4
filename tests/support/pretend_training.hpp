// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace tugline::sweep {

/// A trial's process, in the place of `tugline train`.
struct PretendTraining {
  std::int64_t seed = 0;          ///< of the config: the point
  int attempt = 1;
  std::filesystem::path folder;   ///< of the run

  /// Ends well, with this validation loss.
  int finish(double loss) const;
  /// Ends as a training does whose loss is not finite any more.
  int diverge() const;
};

/// For the main function of a program that runs sweeps of `seed`: workers and trials are this program again, called with `sweep work` and
/// with `train`. Does what such a call asks for and returns true, with the exit code; false: it is called by a person.
bool is_worker_or_trial(int argc, char** argv, const std::function<int(const PretendTraining&)>& train, int& exit_code);

}  // namespace tugline::sweep
