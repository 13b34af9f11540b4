// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/range_ledger.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "tugline/core/error.hpp"

namespace tugline {

double staleness_factor(std::uint32_t staleness, int pieces_per_step, double power) {
  return std::pow(std::max(1.0, (1.0 + staleness) / pieces_per_step), -power);
}

struct RangeLedger::Head {
  std::uint32_t version;
  std::int32_t readers;    // of this version
  std::int64_t pieces;     // applied or left out
};

struct RangeLedger::Worker {
  State state;
  std::uint32_t version_read;
  Push push;
};

std::size_t RangeLedger::bytes(int workers) { return sizeof(Head) + static_cast<std::size_t>(workers) * sizeof(Worker); }

RangeLedger::RangeLedger(void* memory, int workers, int pieces_per_step)
    : head_(static_cast<Head*>(memory)), workers_(reinterpret_cast<Worker*>(head_ + 1)), size_(workers), pieces_per_step_(pieces_per_step) {}

std::uint32_t RangeLedger::version() const { return head_->version; }

void RangeLedger::begin_at(std::int64_t pieces) { head_->pieces = pieces; }

void RangeLedger::read(int worker) {
  Worker& reader = workers_[worker];
  if (reader.state != State::idle) throw Error("a worker reads a range that it has not given a gradient for");
  reader.state = State::computing;
  reader.version_read = head_->version;
  ++head_->readers;
}

void RangeLedger::push(int worker, const Push& push) {
  Worker& pusher = workers_[worker];
  if (pusher.state != State::computing) throw Error("a worker pushes a gradient to a range that it has not read");
  pusher.state = State::waiting;
  pusher.push = push;
}

void RangeLedger::drop(int worker, Push push, int staleness) {
  push.samples = 0;
  push.weight = 0;
  push.left_out = true;
  if (staleness == 0) return this->push(worker, push);   // its step waits for it
  workers_[worker].state = State::idle;
}

bool RangeLedger::waits(int worker) const { return workers_[worker].state == State::waiting; }

bool RangeLedger::is_next(const Worker& worker) const {
  return worker.state == State::waiting && (worker.push.version == 0 || worker.push.version == head_->version + 1);
}

int RangeLedger::waiting() const {
  return static_cast<int>(std::count_if(workers_, workers_ + size_, [&](const Worker& worker) { return is_next(worker); }));
}

bool RangeLedger::ready(int staleness) const {
  const int waiting_now = waiting();
  if (staleness == 0) return waiting_now == pieces_per_step_;
  return waiting_now > 0 && std::none_of(workers_, workers_ + size_, [&](const Worker& worker) {
    return worker.state == State::computing && head_->version + 1 - worker.version_read > static_cast<std::uint32_t>(staleness);
  });
}

bool RangeLedger::ready(const RangeScript& script) const {
  const std::size_t version = head_->version;
  return version < script.pushes.size() && waiting() == script.pushes[version] && head_->readers == script.readers[version];
}

RangeUpdate RangeLedger::take() {
  RangeUpdate update;
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> samples_of;   // step -> of these pushes, of its global batch
  for (int w = 0; w < size_; ++w) {
    Worker& worker = workers_[w];
    if (!is_next(worker)) continue;
    worker.state = State::idle;
    ++head_->pieces;
    const std::uint32_t staleness = head_->version - worker.version_read;
    update.pushes.push_back({w, worker.push, worker.version_read, staleness});
    update.staleness = std::max(update.staleness, staleness);
    auto& [samples, of] = samples_of[worker.push.step];
    samples += worker.push.samples;
    of = worker.push.step_samples;
  }
  std::sort(update.pushes.begin(), update.pushes.end(), [](const auto& a, const auto& b) { return a.push.piece < b.push.piece; });
  for (const auto& [step, samples] : samples_of) update.fraction += static_cast<double>(samples.first) / static_cast<double>(samples.second);
  const bool complete = std::none_of(update.pushes.begin(), update.pushes.end(), [](const auto& applied) { return applied.push.left_out; });
  update.whole_step = samples_of.size() == 1 && std::ssize(update.pushes) == pieces_per_step_ && complete;
  update.first = head_->pieces == std::ssize(update.pushes);
  update.version = ++head_->version;
  update.number = static_cast<double>(head_->pieces) / pieces_per_step_;
  head_->readers = 0;
  return update;
}

}  // namespace tugline
