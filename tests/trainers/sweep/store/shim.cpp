// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/trainers/sweep/store/shim.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::sweep {

namespace fs = std::filesystem;

constexpr double kLateSeconds = 3;     // the most by which a lookup or a listing is late
constexpr double kZombieSeconds = 9;   // the most for which a client stops

class Shim::Client final : public Files, public Clock {
 public:
  Client(Shim& shim, int number) : shim_(shim), number_(number) {}

  double seconds() const override { return shim_.now_ + 1000 * number_; }   // hosts' clocks differ

  void write_new(const fs::path& file, std::string_view content) override {
    begin("write", file);
    ++shim_.writes;
    if (shim_.names_.contains(file)) throw IoError("exists: " + file.string());
    if (shim_.happens(Fault::no_space)) {
      make(file, content.substr(0, content.size() / 2));
      throw IoError("no space left for " + file.string());
    }
    make(file, content);
    end();
  }

  int link(const fs::path& from, const fs::path& to) override {
    begin();
    if (fails()) return EIO;
    const auto source = shim_.names_.find(from);
    if (source == shim_.names_.end()) return ENOENT;
    if (shim_.names_.contains(to)) return EEXIST;
    ++source->second.inode->links;
    name(to, source->second.inode);
    end();
    for (const auto& [fault, error] : {std::pair{Fault::lost_reply, EIO}, std::pair{Fault::false_exists, EEXIST}}) {
      if (!shim_.happens(fault)) continue;
      if (shim_.happens(Fault::late_lookup)) shim_.names_.at(to).seen_from[number_] = shim_.now_ + kLateSeconds;
      return error;
    }
    return 0;
  }

  std::optional<std::int64_t> link_count(const fs::path& file) override {
    begin("look at", file);
    const auto at = shim_.names_.find(file);
    return at == shim_.names_.end() ? std::nullopt : std::optional<std::int64_t>(at->second.inode->links);
  }

  std::optional<std::int64_t> size(const fs::path& file) override {
    begin("look at", file);
    const Inode* const inode = see(file);
    return inode == nullptr ? std::nullopt : std::optional(static_cast<std::int64_t>(inode->content.size()));
  }

  std::optional<std::string> read(const fs::path& file, std::int64_t from) override {
    begin("read", file);
    const Inode* const inode = see(file);
    if (inode == nullptr) return std::nullopt;
    const bool stale = inode->before != inode->content && shim_.happens(Fault::stale_read);
    const std::string& content = stale ? inode->before : inode->content;
    return content.substr(std::min(content.size(), static_cast<std::size_t>(from)));
  }

  void append(const fs::path& file, std::string_view bytes) override {
    begin("append to", file);
    if (!shim_.names_.contains(file)) make(file, "");
    Inode& inode = *shim_.names_.at(file).inode;
    inode.before = inode.content;
    if (!bytes.empty() && shim_.happens(Fault::no_space)) {
      inode.content += bytes.substr(0, bytes.size() / 2);
      throw IoError("no space left for " + file.string());
    }
    inode.content += bytes;
    end();
  }

  void make_folder(const fs::path& folder) override { begin("make", folder); }
  void sync_folder(const fs::path& folder) override {
    begin("sync", folder);
    for (auto& [path, name] : shim_.names_) name.durable = name.durable || path.starts_with(folder.string() + "/");
  }

  void remove(const fs::path& file) override {
    begin("remove", file);
    const auto at = shim_.names_.find(file);
    if (at == shim_.names_.end()) return;
    --at->second.inode->links;
    shim_.names_.erase(at);
  }

  std::vector<std::string> list(const fs::path& folder) override {
    begin("list", folder);
    std::vector<std::string> found;
    const std::string prefix = folder.string() + "/";
    for (auto at = shim_.names_.lower_bound(prefix); at != shim_.names_.end() && at->first.starts_with(prefix); ++at) {
      const std::string name = at->first.substr(prefix.size());
      if (name.find('/') == name.npos && !is_late(at->second.listed_from)) found.push_back(name);
    }
    return found;
  }

  void wait(double seconds) override {
    awake_from_ = shim_.now_ + seconds;
    begin();
  }

  std::thread thread_;
  std::binary_semaphore go_{0};
  double awake_from_ = 0;
  bool done_ = false, crashed_ = false;

 private:
  friend class Shim;

  /// Before a call: others may go first, and the client may stop for long, or for ever.
  void begin() {
    ++shim_.calls;
    if (shim_.calm_) return;
    if (crashed_) throw Crash{};
    if (shim_.happens(Fault::zombie)) awake_from_ = shim_.now_ + kZombieSeconds * shim_.random_.uniform();
    shim_.yield(number_);
    end();
  }
  void begin(const char* what, const fs::path& file) {
    begin();
    if (fails()) throw IoError(fmt::format("cannot {} {}", what, file.string()));
  }
  /// Where a client may die; what it has done stays.
  void end() {
    if (!shim_.happens(Fault::crash)) return;
    crashed_ = true;
    throw Crash{};
  }
  bool fails() { return shim_.happens(Fault::io_error); }

  bool is_late(const std::map<int, double>& from) const { return !shim_.calm_ && from.contains(number_) && from.at(number_) > shim_.now_; }
  const Inode* see(const fs::path& file) const {
    const auto at = shim_.names_.find(file);
    return at == shim_.names_.end() || is_late(at->second.seen_from) ? nullptr : at->second.inode.get();
  }

  void make(const fs::path& file, std::string_view content) {
    const auto inode = std::make_shared<Inode>();
    inode->content = inode->before = content;
    name(file, inode);
  }
  void name(const fs::path& file, const std::shared_ptr<Inode>& inode) {
    Name& name = shim_.names_[file];
    name.inode = inode;
    for (int other = 0; other < static_cast<int>(shim_.clients_.size()); ++other) {
      if (other == number_) continue;
      if (shim_.happens(Fault::late_lookup)) name.seen_from[other] = shim_.now_ + kLateSeconds * shim_.random_.uniform();
      if (shim_.happens(Fault::late_listing)) name.listed_from[other] = shim_.now_ + kLateSeconds * shim_.random_.uniform();
    }
  }

  Shim& shim_;
  int number_;
};

Shim::Shim(std::uint64_t seed, bool with_faults) : random_(seed, Purpose::search) {
  constexpr std::array kMost{0.3, 0.3, 0.3, 0.1, 0.1, 0.03, 0.03, 0.004, 0.01};
  for (std::size_t i = 0; i < chance_.size(); ++i) chance_[i] = !with_faults || random_.below(3) == 0 ? 0 : kMost[i] * random_.uniform();
  calm_client_ = std::make_unique<Client>(*this, -1);
}

Shim::~Shim() = default;

bool Shim::happens(Fault fault) {
  const auto i = static_cast<std::size_t>(fault);
  if (calm_ || random_.uniform() >= chance_[i]) return false;
  ++faults_[i];
  return true;
}

void Shim::yield(int client) {
  back_.release();
  clients_[static_cast<std::size_t>(client)]->go_.acquire();
  if (stalled_) throw Stall{};
}

Files& Shim::calm_files() {
  calm_ = true;
  return *calm_client_;
}

void Shim::cut_power() {
  std::erase_if(names_, [](const auto& name) { return !name.second.durable; });
}

const Clock& Shim::calm_clock() { return *calm_client_; }

bool Shim::run(const std::vector<Program>& programs, std::int64_t most_steps) {
  for (int i = 0; i < static_cast<int>(programs.size()); ++i) clients_.push_back(std::make_unique<Client>(*this, i));
  for (std::size_t i = 0; i < programs.size(); ++i) {
    Client& client = *clients_[i];
    client.thread_ = std::thread([this, &client, program = programs[i], seed = random_.bits()] {
      client.go_.acquire();
      Random random(seed, Purpose::search);
      bool again = true;
      while (again) {
        again = false;
        try {
          client.crashed_ = false;
          program(client, client, random);
        } catch (const Crash&) {
          again = true;   // a new process takes its place
        } catch (const Stall&) {
        }
      }
      client.done_ = true;
      back_.release();
    });
  }
  std::int64_t steps = 0;
  while (true) {
    std::vector<Client*> alive, awake;
    for (const auto& client : clients_) {
      if (!client->done_) alive.push_back(client.get());
      if (!client->done_ && client->awake_from_ <= now_) awake.push_back(client.get());
    }
    if (alive.empty()) break;
    now_ += 2 * call_seconds * random_.uniform();
    if (++steps > most_steps) stalled_ = true;
    if (stalled_) awake = alive;
    if (awake.empty()) {
      const auto first = [](const Client* a, const Client* b) { return a->awake_from_ < b->awake_from_; };
      now_ = (*std::min_element(alive.begin(), alive.end(), first))->awake_from_;
      continue;
    }
    awake[random_.below(awake.size())]->go_.release();
    back_.acquire();
  }
  for (const auto& client : clients_) client->thread_.join();
  return !stalled_;
}

}  // namespace tugline::sweep
