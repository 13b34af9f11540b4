// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/launch/process_tree.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#define BOOST_PROCESS_USE_STD_FS
#include <boost/process/args.hpp>
#include <boost/process/child.hpp>
#include <boost/process/env.hpp>
#include <boost/process/exe.hpp>
#include <boost/process/extend.hpp>
#include <boost/process/io.hpp>
#include <boost/process/search_path.hpp>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"

namespace tugline {
namespace {

namespace bp = boost::process;
namespace fs = std::filesystem;

constexpr double kPatienceSeconds = 30;

/// In the new process, between fork and exec.
void detach(pid_t parent) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);   // it has died before it could be watched
}

struct Process {
  int pid = 0, parent = 0, session = 0;
  char state = 0;
  bool is_dead() const { return state == 'Z' || state == 'X'; }
};

std::vector<Process> all_processes() {
  std::vector<Process> result;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    Process process;
    const auto [rest, failed] = std::from_chars(name.data(), name.data() + name.size(), process.pid);
    if (failed != std::errc() || rest != name.data() + name.size()) continue;
    std::ifstream in(it->path() / "stat");
    std::string text;
    std::getline(in, text);
    const auto after_name = text.rfind(')');   // a command's name may hold anything
    if (after_name == text.npos) continue;
    std::istringstream fields(text.substr(after_name + 1));
    int group = 0;
    fields >> process.state >> process.parent >> group >> process.session;
    result.push_back(process);
  }
  return result;
}

/// Processes of a session that are not yet dead.
std::vector<int> members(int session) {
  std::vector<int> result;
  for (const Process& process : all_processes()) {
    if (process.session == session && !process.is_dead()) result.push_back(process.pid);
  }
  return result;
}

}  // namespace

void adopt_orphans() noexcept { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

ProcessTree::ProcessTree(const std::vector<std::string>& command, const std::map<std::string, std::string>& environment,
                         const std::string& output_file) {
  bp::environment all = boost::this_process::environment();
  for (const auto& [name, value] : environment) all[name] = value;
  const bool is_path = command.at(0).find('/') != std::string::npos;
  const fs::path program = is_path ? fs::path(command[0]) : bp::search_path(command[0]);
  if (program.empty()) throw IoError(fmt::format("'{}' is not found in PATH", command[0]));
  const std::vector<std::string> arguments(command.begin() + 1, command.end());
  const auto setup = [parent = ::getpid()](auto&) { detach(parent); };
  try {
    bp::child child = output_file.empty()
        ? bp::child(bp::exe = program.string(), bp::args = arguments, all, bp::std_in < bp::null, bp::extend::on_exec_setup = setup)
        : bp::child(bp::exe = program.string(), bp::args = arguments, all, bp::std_in < bp::null,
                    (bp::std_out & bp::std_err) > output_file, bp::extend::on_exec_setup = setup);
    pid_ = child.id();
    child.detach();
  } catch (const bp::process_error& error) {
    throw IoError(fmt::format("{} cannot be started: {}", command[0], error.code().message()));
  }
}

ProcessTree::~ProcessTree() { kill(); }

std::optional<int> ProcessTree::exit_code() {
  if (exit_code_) return exit_code_;
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == pid_) {
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  } else if (ended < 0 && errno == ECHILD) {
    exit_code_ = static_cast<int>(ExitCode::internal);   // buried by somebody else
  }
  return exit_code_;
}

bool ProcessTree::is_stuck(double now) {
  const std::vector<Process> all = all_processes();
  const auto command = std::find_if(all.begin(), all.end(), [&](const Process& each) { return each.pid == pid_; });
  const auto dead = std::find_if(all.begin(), all.end(), [&](const Process& each) { return each.parent == pid_ && each.is_dead(); });
  const bool may_notice = command != all.end() && !command->is_dead() && command->state != 'T' && command->state != 't';
  const int unnoticed = may_notice && dead != all.end() ? dead->pid : 0;
  if (unnoticed != std::exchange(unnoticed_, unnoticed)) unnoticed_since_ = now;
  return unnoticed_ != 0 && now - unnoticed_since_ >= kPatienceSeconds;
}

void ProcessTree::signal(int number) noexcept {
  if (!exit_code_) ::kill(pid_, number);
}

int ProcessTree::kill() noexcept {
  int found = 0;
  try {
    std::set<int> seen;
    const double end = Clock::steady().seconds() + kPatienceSeconds;
    while (!gone_) {
      const std::vector<int> left = members(pid_);
      for (const int pid : left) ::kill(pid, SIGKILL);
      seen.insert(left.begin(), left.end());
      gone_ = exit_code() && left.empty();
      if (gone_) break;
      if (Clock::steady().seconds() > end) {
        log::warn("process {} cannot be killed: it waits for a disk, perhaps", left.empty() ? pid_ : left.front());
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    for (const int pid : seen) ::waitpid(pid, nullptr, WNOHANG);   // those that this process has adopted
    found = static_cast<int>(seen.size());
  } catch (const std::exception&) {
    // out of memory or of files: what is left ends with this process
  }
  return found;
}

std::string own_program() {
  constexpr std::string_view kReplaced = " (deleted)";
  std::string file = std::filesystem::read_symlink("/proc/self/exe").string();
  if (file.ends_with(kReplaced) && !std::filesystem::exists(file)) file.resize(file.size() - kReplaced.size());
  return file;
}

std::string describe_exit(int exit_code) {
  if (exit_code > 128 && exit_code < 128 + NSIG) {
    const char* const name = ::sigabbrev_np(exit_code - 128);
    return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", exit_code - 128);
  }
  const char* meaning = nullptr;
  switch (static_cast<ExitCode>(exit_code)) {
    case ExitCode::done: return "done";
    case ExitCode::internal: meaning = "internal error"; break;
    case ExitCode::usage: meaning = "command line"; break;
    case ExitCode::check_said_no: meaning = "a check said no"; break;
    case ExitCode::bad_data: meaning = "bad data"; break;
    case ExitCode::io: meaning = "file or checkpoint"; break;
    case ExitCode::run_again: meaning = "stopped with a checkpoint"; break;
    case ExitCode::hang: meaning = "a rank hangs"; break;
    case ExitCode::disagree: meaning = "ranks disagree"; break;
    case ExitCode::config: meaning = "config"; break;
  }
  return meaning != nullptr ? fmt::format("exit code {} ({})", exit_code, meaning) : fmt::format("exit code {}", exit_code);
}

}  // namespace tugline
