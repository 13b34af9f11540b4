// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/apps/app.hpp"

#include <unistd.h>

#include <iostream>
#include <optional>
#include <sstream>

#include "tugline/core/error.hpp"
#include "tugline/core/freed_memory.hpp"
#include "tugline/core/log.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"

namespace tugline {
namespace {

constexpr const char* kVersion = TUGLINE_VERSION;

std::string program_help() {
  std::ostringstream out;
  out << "Tugline trains LibTorch models on many nodes.\n\n  tugline COMMAND [ARGUMENTS]         one process\n"
         "  mpirun -n N tugline COMMAND ...     N ranks\n\nCommands\n";
  for (const Command& command : commands()) {
    out << "  " << command.name << std::string(12 - std::string(command.name).size(), ' ') << command.summary << '\n';
  }
  out << "\ntugline COMMAND --help says more. Exit codes: 0 done, 2 command line, 3 a check said no, 65 data,\n"
         "74 file, 75 stopped with a checkpoint (run me again), 76 a rank hangs, 77 ranks disagree, 78 config.\n";
  return out.str();
}

int dispatch(World& world, const ModelRegistry& models, const std::vector<std::string>& words) {
  std::ostream silent(nullptr);
  std::ostream& out = world.rank() == 0 ? std::cout : silent;
  if (words.size() < 2 || words[1] == "--help" || words[1] == "-h" || words[1] == "help") {
    (words.size() < 2 && world.rank() == 0 ? std::cerr : out) << program_help();
    return static_cast<int>(words.size() < 2 ? ExitCode::usage : ExitCode::done);
  }
  if (words[1] == "--version") {
    out << "tugline " << kVersion << '\n';
    return 0;
  }
  const Command* command = nullptr;
  agree(world.control(), [&] { command = &command_named(words[1]); });
  const std::vector<std::string> arguments(words.begin() + 2, words.end());
  const ExitCode code = command->run(Invocation{world, models, arguments, words, out});
  out.flush();
  return static_cast<int>(code);
}

/// The message without the stack trace that LibTorch's errors carry.
std::string sentence(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find("\nException raised from "));
}

/// An error that only this rank saw: the others are waiting in some collective, so the whole job must end.
int fail_alone(World& world, ExitCode code, const std::string& what) {
  std::cerr << (world.size() > 1 ? "[rank " + std::to_string(world.rank()) + "] " : std::string()) << "tugline: " << what
            << std::endl;
  if (world.size() > 1) world.communicator().abort(static_cast<int>(code));
  return static_cast<int>(code);
}

}  // namespace

int App::run(int argc, char** argv) {
  keep_freed_memory();
  std::optional<World> world;
  try {
    world.emplace(argc, argv);
  } catch (const Error& error) {
    std::cerr << "tugline: " << error.what() << std::endl;
    return static_cast<int>(error.exit_code());
  }
  log::set_rank(world->rank());
  const std::vector<std::string> words(argv, argv + argc);
  try {
    return dispatch(*world, models_, words);
  } catch (const AgreedError& error) {
    if (world->rank() == 0) std::cerr << "tugline: " << sentence(error) << std::endl;
    return static_cast<int>(error.exit_code());
  } catch (const Error& error) {
    return fail_alone(*world, error.exit_code(), sentence(error));
  } catch (const std::exception& error) {
    return fail_alone(*world, ExitCode::internal, sentence(error));
  }
}

}  // namespace tugline
