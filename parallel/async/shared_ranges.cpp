// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/shared_ranges.hpp"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>

#include "tugline/core/error.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/parallel/node/node_team.hpp"
#include "tugline/parallel/reduce.hpp"
#include "tugline/parallel/strategy.hpp"
#include "tugline/parallel/sync/exchange.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kChunkBytes = 256 << 10, kMostChunks = 2048;   // optimizers remember views of twice as many

void check(int error, const char* what) {
  if (error != 0) throw Error(std::string(what) + ": " + std::strerror(error));
}

void share(pthread_mutex_t& mutex) {
  pthread_mutexattr_t attributes;
  check(pthread_mutexattr_init(&attributes), "pthread_mutexattr_init");
  check(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED), "pthread_mutexattr_setpshared");
  check(pthread_mutex_init(&mutex, &attributes), "pthread_mutex_init");
  pthread_mutexattr_destroy(&attributes);
}

std::vector<Arena::Segment> chunks_of(const Arena& arena, int bucket) {
  std::vector<Arena::Segment> chunks;
  std::int64_t all_bytes = 0;
  for (const auto& flat : arena.flats()) all_bytes += static_cast<std::int64_t>(flat.values.nbytes());
  const std::int64_t bytes = std::max(kChunkBytes, (all_bytes / kMostChunks + 63) / 64 * 64);
  for (Arena::Segment segment : arena.segments()) {
    if (segment.bucket != bucket) continue;
    const auto element = static_cast<std::int64_t>(arena.flats()[static_cast<std::size_t>(segment.range.buffer)].values.element_size());
    const std::int64_t end = segment.range.end;
    for (std::int64_t begin = segment.range.begin; begin < end; begin += bytes / element) {
      segment.range.begin = begin;
      segment.range.end = std::min(end, begin + bytes / element);
      chunks.push_back(segment);
    }
  }
  return chunks;
}

std::byte* at_element(const at::Tensor& flat, std::int64_t element) {
  return static_cast<std::byte*>(flat.data_ptr()) + element * static_cast<std::int64_t>(flat.element_size());
}

}  // namespace

/// Zeroed but for the mutex; the ledger or cursor follows.
struct alignas(64) SharedRanges::Place {
  pthread_mutex_t mutex;
  Signal applied;   // the range's version
};

class SharedRanges::CursorLock {
 public:
  explicit CursorLock(const SharedRanges& ranges) : mutex_(ranges.place(0).mutex) { check(pthread_mutex_lock(&mutex_), "pthread_mutex_lock"); }
  ~CursorLock() { pthread_mutex_unlock(&mutex_); }
  CursorLock(const CursorLock&) = delete;
  CursorLock& operator=(const CursorLock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

SharedRanges::SharedRanges(Arena& arena, Optimizer& optimizer, std::vector<at::Tensor> common, Schedule schedule, SharedRangesOptions options,
                           const Clock& clock)
    : arena_(arena), optimizer_(optimizer), common_(std::move(common)), schedule_(schedule), options_(std::move(options)), clock_(clock) {
  make_places();
  find_gradients();
  if (options_.node) options_.node->barrier();
}

void SharedRanges::make_places() {
  const int workers = static_cast<int>(options_.host_of.size());
  const std::size_t content = std::max(PieceCursor::bytes(workers), RangeLedger::bytes(workers));
  place_bytes_ = sizeof(Place) + (content + alignof(Place) - 1) / alignof(Place) * alignof(Place);
  const std::size_t places = 1 + arena_.buckets().size();
  memory_ = options_.node ? options_.node->allocate_common(places * place_bytes_) : host_memory(places * place_bytes_);
  for (std::size_t i = 0; i < places; ++i) {
    if (!options_.node || options_.node->rank() == 0) share(place(i).mutex);
    void* const content_of_place = &place(i) + 1;
    if (i == 0) {
      cursor_.emplace(content_of_place, workers, options_.pieces_per_step, options_.in_turns);
    } else {
      ledgers_.emplace_back(content_of_place, workers, options_.pieces_per_step);
      chunks_.push_back(chunks_of(arena_, static_cast<int>(i - 1)));
    }
  }
}

/// Those of this host's ranks lie in windows, in the ranks' order; the others' arrive in one piece of memory.
void SharedRanges::find_gradients() {
  const int here = options_.host_of[static_cast<std::size_t>(options_.rank)];
  const auto far = options_.host_of.size() - static_cast<std::size_t>(std::count(options_.host_of.begin(), options_.host_of.end(), here));
  for (std::size_t f = 0; f < arena_.flats().size(); ++f) {
    auto& of_workers = gradients_.emplace_back();
    const at::Tensor& flat = arena_.flats()[f].gradients;
    if (!flat.defined()) continue;
    std::vector<std::byte*> windows{static_cast<std::byte*>(flat.data_ptr())};
    if (options_.node) windows = options_.node->everywhere(flat.data_ptr());
    if (windows.size() + far != options_.host_of.size()) throw Error("the gradients do not lie in memory that the ranks share");
    const Range kept = options_.kept.empty() ? Range{} : options_.kept[f];
    const std::size_t bytes = static_cast<std::size_t>(kept.size()) * flat.element_size();
    if (far > 0) inboxes_.push_back(options_.node->allocate_common(far * bytes));
    auto window = windows.begin();
    auto* inbox = far > 0 ? static_cast<std::byte*>(inboxes_.back().get()) : nullptr;
    for (const int host : options_.host_of) {
      if (host == here) {
        of_workers.push_back({*window++, 0});
      } else {
        of_workers.push_back({inbox, kept.begin});
        inbox += bytes;
      }
    }
  }
}
SharedRanges::~SharedRanges() = default;

SharedRanges::Place& SharedRanges::place(std::size_t index) const {
  return *reinterpret_cast<Place*>(static_cast<std::byte*>(memory_.get()) + index * place_bytes_);
}

void SharedRanges::lock(int range) { check(pthread_mutex_lock(&place(static_cast<std::size_t>(range) + 1).mutex), "pthread_mutex_lock"); }
void SharedRanges::unlock(int range) { pthread_mutex_unlock(&place(static_cast<std::size_t>(range) + 1).mutex); }

void SharedRanges::apply(int range, const RangeUpdate& update, bool brings) {
  const double start = clock_.seconds();
  const double scale = gradient_scale(update);
  if (scale > 0) {
    const at::NoGradGuard no_grad;
    Update step{.lr = learning_rate(update), .number = update.number, .first = update.first, .grad_scale = scale, .fraction = update.fraction};
    for (const auto& chunk : chunks_[static_cast<std::size_t>(range)]) {
      at::Tensor sum = gather(chunk.range, update);
      if (options_.clip_value > 0) sum.clamp_(-options_.clip_value / step.grad_scale, options_.clip_value / step.grad_scale);
      const at::Tensor own = arena_.values(chunk.range);
      step.gradients = &sum;
      step.copy = brings ? &own : nullptr;
      optimizer_.step(chunk.range, chunk.group, step);
    }
  } else if (brings) {
    copy(range);
  }
  raise(place(static_cast<std::size_t>(range) + 1).applied, update.version);
  const std::scoped_lock lock(mutex_);
  (std::this_thread::get_id() == own_thread_ ? spent_.apply_seconds : spent_.serve_seconds) += clock_.seconds() - start;
  if (brings) spent_.bytes += std::ssize(values(range));
}

/// What makes the mean over the update's samples of gradients that are seeded with 1 / the expected weight of a global batch. A whole step is
/// divided by what its samples really weigh, as in synchronous training; the weight of a part is not that of its batch, which nobody knows
/// yet, so that samples which weigh more must count more. 0: there is nothing to apply.
double SharedRanges::gradient_scale(const RangeUpdate& update) {
  std::vector<StepReport> weights;
  for (const AppliedPush& applied : update.pushes) weights.push_back({.weight = applied.push.weight});
  const double weight = add_pairwise(std::move(weights)).weight;
  if (!(weight > 0)) return 0;
  return update.whole_step ? update.pushes.front().push.nominal_weight / weight : 1 / update.fraction;
}

/// The sum of the update's gradients in `chunk`: in the memory of one of them, which are not needed any more. In the order of pieces, so that
/// it does not matter who came first.
at::Tensor SharedRanges::gather(const Range& chunk, const RangeUpdate& update) {
  const auto buffer = static_cast<std::size_t>(chunk.buffer);
  const at::Tensor& flat = arena_.flats()[buffer].gradients;
  const auto element = static_cast<std::int64_t>(flat.element_size());
  std::vector<const void*> in;
  void* sum = nullptr;
  std::int64_t bytes = 0;
  for (const AppliedPush& applied : update.pushes) {
    if (applied.push.left_out) continue;
    std::byte* const gradient = gradient_at(applied.worker, chunk);
    in.push_back(gradient);
    if (sum == nullptr || applied.worker == options_.rank) sum = gradient;   // this rank's own is in its cache
    if (applied.worker != options_.rank) bytes += chunk.size() * element;
  }
  if (bytes > 0) {
    const std::scoped_lock lock(mutex_);
    spent_.bytes += bytes;
  }
  if (in.size() > 1) reduce(in, sum, chunk.size(), dtype_of(flat), ReduceOp::sum);
  return at::from_blob(sum, {chunk.size()}, flat.options());
}

double SharedRanges::learning_rate(const RangeUpdate& update) const {
  std::int64_t step = 0;
  for (const AppliedPush& applied : update.pushes) step = std::max(step, applied.push.step);
  return schedule_.lr(step) * staleness_factor(update.staleness, options_.pieces_per_step, options_.staleness_power);
}

void SharedRanges::copy_out(int range) {
  copy(range);
  const std::scoped_lock lock(mutex_);
  spent_.bytes += std::ssize(values(range));
}

void SharedRanges::copy(int range) {
  const Range& whole = arena_.buckets()[static_cast<std::size_t>(range)].range;
  const std::span<std::byte> from = values(range);
  std::memcpy(at_element(arena_.flats()[static_cast<std::size_t>(whole.buffer)].values, whole.begin), from.data(), from.size());
}

std::byte* SharedRanges::gradient_at(int worker, const Range& range) const {
  const auto buffer = static_cast<std::size_t>(range.buffer);
  const Gradients& gradients = gradients_[buffer][static_cast<std::size_t>(worker)];
  return gradients.memory + (range.begin - gradients.first) * static_cast<std::int64_t>(arena_.flats()[buffer].gradients.element_size());
}

std::span<std::byte> SharedRanges::gradient(int worker, int range) const {
  return {gradient_at(worker, arena_.buckets()[static_cast<std::size_t>(range)].range), values(range).size()};
}

std::span<std::byte> SharedRanges::values(int range) const {
  const Range& whole = arena_.buckets()[static_cast<std::size_t>(range)].range;
  const at::Tensor& flat = common_[static_cast<std::size_t>(whole.buffer)];
  return {at_element(flat, whole.begin), static_cast<std::size_t>(whole.size()) * flat.element_size()};
}

void SharedRanges::wait_for(int range, std::uint32_t version) {
  if (!options_.node) throw Error("a worker that is alone waits for another");
  const double start = clock_.seconds();
  options_.node->wait_for(place(static_cast<std::size_t>(range) + 1).applied, version);
  add_wait(clock_.seconds() - start);
}

void SharedRanges::add_wait(double seconds) {
  const std::scoped_lock lock(mutex_);
  spent_.wait_seconds += seconds;
}

std::optional<std::int64_t> SharedRanges::claim(int worker) {
  const CursorLock lock(*this);
  return cursor_->claim(worker);
}

void SharedRanges::close() {
  const CursorLock lock(*this);
  cursor_->close();
}

void SharedRanges::publish() {
  for (std::size_t f = 0; f < common_.size(); ++f) at::Tensor(common_[f]).copy_(arena_.flats()[f].values);
}

void SharedRanges::open(std::int64_t step, std::int64_t end) {
  cursor_->open(step, end);
  for (auto& ledger : ledgers_) ledger.begin_at(step * options_.pieces_per_step);
}

std::int64_t SharedRanges::end_step() const {
  const CursorLock lock(*this);
  return cursor_->end() / options_.pieces_per_step;
}

SharedRanges::Spent SharedRanges::take_spent() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(spent_, {});
}

}  // namespace tugline
