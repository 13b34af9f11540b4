// SPDX-License-Identifier: Apache-2.0
// Commands that only look: config, models, datasets, checkpoint.
#include <boost/program_options.hpp>

#include <algorithm>
#include <filesystem>
#include <ostream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/config/load.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/io/safetensors.hpp"
#include "tugline/core/models/registry.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"

namespace tugline {
namespace po = boost::program_options;
namespace fs = std::filesystem;
namespace {

po::options_description help_only() {
  po::options_description options("Options");
  options.add_options()("help,h", "this text");
  return options;
}

/// Parses and runs `body` alike on every rank, so that a mistake is reported once.
template <typename Body>
ExitCode run_alike(const Invocation& invocation, const char* name, const po::options_description& options, std::size_t min_words,
                   std::size_t max_words, Body body) {
  const Command& command = command_named(name);
  ExitCode code = ExitCode::done;
  agree(invocation.world.control(), [&] {
    po::variables_map values;
    if (wants_help(invocation)) {
      invocation.out << help_of(command, &options);
      return;
    }
    const Arguments arguments = parse_arguments(invocation, command, options, values, min_words, max_words);
    code = body(arguments, values);
  });
  return code;
}

ExitCode list_checkpoints(const fs::path& run, std::ostream& out) {
  const fs::path folder = folder_of_checkpoints(run);
  if (!fs::is_directory(folder)) throw UsageError("'" + run.string() + "' is not a folder");
  const CheckpointFolder checkpoints(folder);
  const auto entries = checkpoints.list();
  if (entries.empty()) {
    out << "no checkpoints in " << folder.string() << '\n';
    return ExitCode::done;
  }
  ExitCode code = ExitCode::done;
  const fs::path best = checkpoints.best();
  for (const auto& entry : entries) {
    std::string state = "ok";
    try {
      verify_checkpoint(entry.file);
    } catch (const CheckpointError& error) {
      state = error.what();
      code = ExitCode::check_said_no;
    }
    out << fmt::format("{:>8}  {:>10}  {}{}  {}\n", entry.step, checkpoints.bytes_of(entry), entry.file.string(),
                       entry.file == best ? "  (best)" : "", state);
  }
  return code;
}

/// As the list, but none at all is not well.
ExitCode verify_checkpoints(const fs::path& run, std::ostream& out) {
  if (CheckpointFolder(folder_of_checkpoints(run)).list().empty()) {
    throw CheckpointError("'" + run.string() + "' holds no checkpoint; give a checkpoint, or the folder of a run");
  }
  return list_checkpoints(run, out);
}

void show_checkpoint(const fs::path& file, std::ostream& out) {
  const Checkpoint checkpoint = read_checkpoint(file);
  out << file.string() << ": " << checkpoint.arrays.size() << " arrays\n";
  for (const auto& [path, array] : checkpoint.arrays) {
    out << fmt::format("  {:<56} {:<9} [{}]\n", path, name_of(array.dtype), fmt::join(array.shape, ", "));
  }
  for (const auto& [name, text] : checkpoint.texts) {
    out << "\n" << name << '\n' << text << (text.empty() || text.back() != '\n' ? "\n" : "");
  }
}

/// Bit by bit, but for where and when they were written.
ExitCode compare_checkpoints(const fs::path& one, const fs::path& other, std::ostream& out) {
  const Checkpoint a = read_checkpoint(one), b = read_checkpoint(other);
  std::vector<std::string> differ;
  for (const auto& [path, array] : a.arrays) {
    const auto found = b.arrays.find(path);
    if (found == b.arrays.end()) {
      differ.push_back(path + " is only in " + one.string());
    } else if (array.dtype != found->second.dtype || array.shape != found->second.shape) {
      differ.push_back(path + " has another type or shape");
    } else if (array.data != found->second.data) {
      differ.push_back(path + " has other bits");
    }
  }
  for (const auto& [path, array] : b.arrays) {
    if (a.arrays.count(path) == 0) differ.push_back(path + " is only in " + other.string());
  }
  for (const std::string& line : differ) out << line << '\n';
  if (differ.empty()) out << fmt::format("{} arrays, no bit differs\n", a.arrays.size());
  return differ.empty() ? ExitCode::done : ExitCode::check_said_no;
}

fs::path newest_of(const fs::path& run) {
  const fs::path newest = CheckpointFolder(folder_of_checkpoints(run)).newest_valid(nullptr);
  if (newest.empty()) throw CheckpointError("'" + run.string() + "' holds no checkpoint that is intact");
  return newest;
}

/// Parameters and buffers under their own names, as a state dict of PyTorch has them.
void export_checkpoint(const fs::path& file, const fs::path& to, const std::string& format, std::ostream& out) {
  if (format != "safetensors") throw UsageError("--format " + format + ": there is safetensors");
  if (fs::exists(to)) throw UsageError("'" + to.string() + "' is there already; nothing was overwritten");
  const Checkpoint checkpoint = read_checkpoint(file, is_of_model);
  std::vector<ArrayView> arrays;
  for (const auto& [path, array] : checkpoint.arrays) arrays.push_back({path.substr(path.find('/', 1) + 1), array.dtype, array.shape, array.data.data()});
  write_safetensors(to, arrays, {{"format", "pt"}, {"producer", "tugline"}});
  out << fmt::format("{}: {} tensors\n", to.string(), arrays.size());
}

/// Deletes all but the newest of a run, and the best.
ExitCode prune_checkpoints(const fs::path& run, std::int64_t keep, std::ostream& out) {
  CheckpointFolder checkpoints(folder_of_checkpoints(run));
  const auto before = checkpoints.list().size();
  if (before == 0) throw CheckpointError("'" + run.string() + "' holds no checkpoint; give the folder of a run");
  checkpoints.prune(keep, true);
  const auto after = checkpoints.list().size();
  out << fmt::format("{} of {} checkpoints deleted, {} left\n", before - after, before, after);
  return ExitCode::done;
}

}  // namespace

ExitCode config_command(const Invocation& invocation) {
  auto options = help_only();
  options.add_options()("json", "as JSON (show) or JSON Schema (schema)");
  return run_alike(invocation, "config", options, 1, 2, [&](const Arguments& arguments, const po::variables_map& values) {
    const bool json = values.count("json") > 0;
    const std::string& what = arguments.words[0];
    if (what == "schema" && arguments.words.size() == 1 && arguments.overrides.empty()) {
      invocation.out << (json ? schema_json() + "\n" : schema_text());
    } else if (what == "show" && arguments.words.size() == 2) {
      const RunConfig config = load_config(arguments.words[1], arguments.overrides);
      invocation.out << (json ? to_json(config) + "\n" : to_yaml(config));
    } else {
      throw UsageError(std::string("usage: tugline ") + command_named("config").usage);
    }
    return ExitCode::done;
  });
}

ExitCode models_command(const Invocation& invocation) {
  return run_alike(invocation, "models", help_only(), 0, 0, [&](const Arguments&, const po::variables_map&) {
    for (const auto& entry : invocation.models.entries()) invocation.out << fmt::format("{:<14} {}\n", entry.name, entry.help);
    return ExitCode::done;
  });
}

ExitCode datasets_command(const Invocation& invocation) {
  return run_alike(invocation, "datasets", help_only(), 0, 0, [&](const Arguments&, const po::variables_map&) {
    for (const auto& entry : dataset_catalogue()) invocation.out << fmt::format("{:<14} {}\n", entry.name, entry.help);
    return ExitCode::done;
  });
}

ExitCode checkpoint_command(const Invocation& invocation) {
  auto options = help_only();
  options.add_options()("format", po::value<std::string>()->default_value("safetensors")->value_name("NAME"), "export: of the file to write")(
      "keep", po::value<std::int64_t>()->default_value(1)->value_name("N"), "prune: how many of the newest to keep");
  return run_alike(invocation, "checkpoint", options, 2, 3, [&](const Arguments& arguments, const po::variables_map& values) {
    const std::string& what = arguments.words[0];
    const fs::path path = arguments.words[1];
    const std::size_t files = what == "diff" || what == "export" ? 2 : what == "ls" || what == "show" || what == "verify" || what == "prune" ? 1 : 0;
    if (files + 1 != arguments.words.size()) {
      throw UsageError("'checkpoint " + what + "' is not a command, or has too many or too few files; usage: tugline " +
                       command_named("checkpoint").usage);
    }
    for (std::size_t i = 1; i < arguments.words.size(); ++i) {
      if (i == 2 && what == "export") continue;
      if (!fs::exists(arguments.words[i])) throw IoError("'" + arguments.words[i] + "' does not exist");
    }
    if (what == "diff") return compare_checkpoints(path, arguments.words[2], invocation.out);
    if (what == "export") {
      export_checkpoint(fs::is_directory(path) ? newest_of(path) : path, arguments.words[2], values["format"].as<std::string>(), invocation.out);
      return ExitCode::done;
    }
    if (what == "prune") {
      const auto keep = values["keep"].as<std::int64_t>();
      if (keep < 1) throw UsageError(fmt::format("--keep {}: at least 1", keep));
      if (!fs::is_directory(path)) throw UsageError("'" + path.string() + "' is not the folder of a run");
      return prune_checkpoints(path, keep, invocation.out);
    }
    if (what == "ls") return list_checkpoints(path, invocation.out);
    if (what == "verify" && fs::is_directory(path)) return verify_checkpoints(path, invocation.out);
    if (fs::is_directory(path)) {
      throw UsageError("'" + path.string() + "' is a folder; `tugline checkpoint ls` lists the files in it");
    }
    if (what == "show") {
      show_checkpoint(path, invocation.out);
    } else {
      verify_checkpoint(path);
      invocation.out << path.string() << ": ok\n";
    }
    return ExitCode::done;
  });
}

}  // namespace tugline
