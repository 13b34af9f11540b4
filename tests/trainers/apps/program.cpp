// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/trainers/apps/program.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#define BOOST_PROCESS_USE_STD_FS
#include <boost/process/args.hpp>
#include <boost/process/child.hpp>
#include <boost/process/exe.hpp>
#include <boost/process/extend.hpp>
#include <boost/process/io.hpp>
#include <boost/process/pipe.hpp>
#include <boost/process/start_dir.hpp>

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace bp = boost::process;

Words command_line(const Words& words, int ranks) {
  Words all;
  if (ranks > 0) all = {TUGLINE_MPIEXEC, "-q", "--oversubscribe", "--bind-to", "none", "-n", std::to_string(ranks)};
  all.push_back(TUGLINE_PROGRAM);
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

/// Where stderr goes; outside the folder in which the program runs.
class OutputFolder {
 public:
  OutputFolder() {
    std::string name = (fs::temp_directory_path() / "tugline-output-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) folder_ = name;
  }
  ~OutputFolder() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  fs::path err() const { return folder_ / "err"; }

 private:
  fs::path folder_;
};

}  // namespace

struct Program::Impl {
  OutputFolder output;
  bp::ipstream out;
  std::string said;   // read from `out` so far
  bp::child child;
};

Program::Program(const fs::path& folder, const Words& words, int ranks) : impl_(std::make_unique<Impl>()) {
  const Words all = command_line(words, ranks);
  const auto die_with_the_test = [](auto&) { ::prctl(PR_SET_PDEATHSIG, SIGTERM); };
  impl_->child = bp::child(bp::exe = all[0], bp::args = Words(all.begin() + 1, all.end()), bp::start_dir = folder.string(),
                           bp::std_in < bp::null, bp::std_out > impl_->out,
                           bp::std_err > impl_->output.err().string(), bp::extend::on_exec_setup = die_with_the_test);
}

Program::~Program() {
  std::error_code ignored;
  if (impl_->child.running(ignored)) {
    ::kill(impl_->child.id(), SIGTERM);
    impl_->child.wait(ignored);
  }
}

void Program::wait_for(const std::string& text) {
  for (std::string line; std::getline(impl_->out, line);) {
    impl_->said += line + '\n';
    if (line.find(text) != line.npos) return;
  }
}

void Program::signal(int number) { ::kill(impl_->child.id(), number); }

Outcome Program::wait() {
  std::ostringstream rest;
  rest << impl_->out.rdbuf();
  impl_->child.wait();
  const int status = impl_->child.native_exit_code();
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, impl_->said + std::move(rest).str(), read_file(impl_->output.err())};
}

Outcome run_program(const fs::path& folder, const Words& words, int ranks) { return Program(folder, words, ranks).wait(); }

const char* mpirun() { return TUGLINE_MPIEXEC; }

fs::path source_file(const std::string& name) { return fs::path(TUGLINE_SOURCE) / name; }

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    files[entry.path().lexically_relative(folder).string()] =
        entry.is_regular_file() ? read_file(entry.path()) : "a folder";
  }
  return files;
}

}  // namespace tugline
