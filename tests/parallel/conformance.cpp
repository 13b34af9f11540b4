// SPDX-License-Identifier: Apache-2.0
// Inputs depend on the rank; expected values are closed forms in the number of ranks.
#include "tugline/tests/parallel/conformance.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>

#include "tugline/core/random.hpp"
#include "tugline/parallel/reduce.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kSizes[] = {0, 1, 7, 1023, (1 << 20) + 1};
constexpr DType kDTypes[] = {DType::float32, DType::float64, DType::bfloat16, DType::float16,
                             DType::int64, DType::int32, DType::uint8, DType::boolean};

/// `count` elements of `dtype` that begin at an address which is aligned for the type and for nothing larger.
class Buffer {
 public:
  Buffer(std::int64_t count, DType dtype) : count_(count), dtype_(dtype), bytes_((static_cast<std::size_t>(count) + 1) * size_of(dtype)) {}
  void* data() { return bytes_.data() + size_of(dtype_); }
  void set(std::int64_t i, double value) {
    const auto at = static_cast<std::size_t>(i);
    switch (dtype_) {
      case DType::float32: static_cast<float*>(data())[at] = static_cast<float>(value); break;
      case DType::float64: static_cast<double*>(data())[at] = value; break;
      case DType::bfloat16:
      case DType::float16: {
        const auto wide = static_cast<float>(value);
        from_float32(&wide, static_cast<std::uint16_t*>(data()) + at, 1, dtype_);
        break;
      }
      case DType::int64: static_cast<std::int64_t*>(data())[at] = static_cast<std::int64_t>(value); break;
      case DType::int32: static_cast<std::int32_t*>(data())[at] = static_cast<std::int32_t>(value); break;
      default: static_cast<std::uint8_t*>(data())[at] = static_cast<std::uint8_t>(static_cast<int>(value)); break;
    }
  }
  /// The first element in which the two differ; -1: none.
  std::int64_t first_difference(Buffer& other) {
    const std::size_t size = size_of(dtype_);
    if (std::memcmp(data(), other.data(), static_cast<std::size_t>(count_) * size) == 0) return -1;
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::size_t at = static_cast<std::size_t>(i) * size;
      if (std::memcmp(static_cast<char*>(data()) + at, static_cast<char*>(other.data()) + at, size) != 0) return i;
    }
    return -1;
  }

 private:
  std::int64_t count_;
  DType dtype_;
  std::vector<char> bytes_;
};

/// Rank r holds (r + 1) * (i mod 5 + 1): every reduction has a closed form.
double input_at(int rank, std::int64_t i) { return (rank + 1.0) * static_cast<double>(i % 5 + 1); }
double expected_at(int size, std::int64_t i, ReduceOp op) {
  const auto factor = static_cast<double>(i % 5 + 1);
  if (op == ReduceOp::max) return factor * size;
  return op == ReduceOp::min ? factor : factor * size * (size + 1) / 2;
}

void fill(Buffer& buffer, int rank, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) buffer.set(i, input_at(rank, i));
}

void all_reduce(Communicator& communicator) {
  for (const DType dtype : kDTypes) {
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
      for (const std::int64_t count : kSizes) {
        // What is large is summed only, on few ranks: enough to be cut into segments, and seconds faster.
        if (count > 10'000 && (op != ReduceOp::sum || communicator.size() > 4)) continue;
        Buffer ours(count, dtype), expected(count, dtype);
        fill(ours, communicator.rank(), count);
        for (std::int64_t i = 0; i < count; ++i) expected.set(i, expected_at(communicator.size(), i, op));
        communicator.all_reduce(ours.data(), count, dtype, op);
        EXPECT_EQ(ours.first_difference(expected), -1) << count << " " << name_of(dtype) << ", op " << static_cast<int>(op);
      }
    }
  }
}

/// float32 can hold the sum of these, bfloat16 cannot hold what lies between.
void halves_accumulate_in_float32(Communicator& communicator) {
  for (const DType dtype : {DType::bfloat16, DType::float16}) {
    Buffer ours(1, dtype), expected(1, dtype);
    const double large = dtype == DType::bfloat16 ? 256 : 2048;   // adding 1 to it changes nothing in 16 bits
    ours.set(0, communicator.rank() == 0 ? large : 1);
    expected.set(0, large + communicator.size() - 1);
    communicator.all_reduce(ours.data(), 1, dtype);
    EXPECT_EQ(ours.first_difference(expected), -1) << name_of(dtype);
  }
}

void all_ranks_get_the_same_bits(Communicator& communicator) {
  Random random(5, Purpose::synthetic, static_cast<std::uint64_t>(communicator.rank()));
  std::vector<float> values(10'007);
  for (float& value : values) value = static_cast<float>(random.normal());
  communicator.all_reduce(values.data(), static_cast<std::int64_t>(values.size()), DType::float32);
  std::vector<float> all(values.size() * static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(values.data(), static_cast<std::int64_t>(values.size() * sizeof(float)), all.data());
  for (int r = 0; r < communicator.size(); ++r) {
    EXPECT_EQ(std::memcmp(all.data() + static_cast<std::size_t>(r) * values.size(), values.data(), values.size() * sizeof(float)), 0)
        << "rank " << r;
  }
}

void broadcast(Communicator& communicator) {
  for (int root = 0; root < communicator.size(); ++root) {
    for (const std::int64_t bytes : kSizes) {
      std::vector<char> data(static_cast<std::size_t>(bytes) + 1, static_cast<char>(communicator.rank() + 1));
      communicator.broadcast(data.data() + 1, bytes, root);
      EXPECT_EQ(std::count(data.begin() + 1, data.end(), static_cast<char>(root + 1)), bytes) << bytes << " from " << root;
      EXPECT_EQ(data[0], communicator.rank() + 1) << "nothing before the buffer is touched";
    }
  }
}

void all_gather(Communicator& communicator) {
  const int size = communicator.size();
  for (const std::int64_t bytes : kSizes) {
    const std::vector<char> mine(static_cast<std::size_t>(bytes), static_cast<char>(communicator.rank() + 1));
    std::vector<char> all(static_cast<std::size_t>(bytes * size) + 1, 0);
    communicator.all_gather(mine.data(), bytes, all.data() + 1);
    for (int r = 0; r < size; ++r) {
      const auto part = all.begin() + 1 + r * bytes;
      EXPECT_EQ(std::count(part, part + bytes, static_cast<char>(r + 1)), bytes) << bytes << " of " << r;
    }
    EXPECT_EQ(all[0], 0);
  }
}

void several_in_flight_completed_in_any_order(Communicator& communicator) {
  constexpr int kCalls = 6;
  const int size = communicator.size();
  std::vector<std::vector<std::int64_t>> data;
  for (int call = 0; call < kCalls; ++call) data.emplace_back(100 * static_cast<std::size_t>(call) + 1, communicator.rank() + call);
  std::vector<std::unique_ptr<Work>> under_way;
  for (auto& values : data) {
    under_way.push_back(communicator.start_all_reduce(values.data(), static_cast<std::int64_t>(values.size()), DType::int64, ReduceOp::sum));
  }
  for (std::size_t i = under_way.size(); i-- > 0;) {
    under_way[i]->wait();
    EXPECT_TRUE(under_way[i]->test()) << "done stays done";
  }
  for (int call = 0; call < kCalls; ++call) {
    const std::int64_t expected = size * (size - 1) / 2 + static_cast<std::int64_t>(size) * call;
    const auto& values = data[static_cast<std::size_t>(call)];
    EXPECT_EQ(std::count(values.begin(), values.end(), expected), static_cast<std::int64_t>(values.size())) << call;
  }
}

void destroying_work_waits_for_it(Communicator& communicator) {
  for (const DType dtype : {DType::float64, DType::bfloat16}) {
    Buffer ours(1023, dtype), expected(1023, dtype);
    fill(ours, communicator.rank(), 1023);
    for (std::int64_t i = 0; i < 1023; ++i) expected.set(i, expected_at(communicator.size(), i, ReduceOp::sum));
    communicator.start_all_reduce(ours.data(), 1023, dtype, ReduceOp::sum).reset();
    EXPECT_EQ(ours.first_difference(expected), -1) << name_of(dtype);
  }
}

/// Each rank sends to its right neighbour, which for one rank is itself.
void point_to_point_keeps_order_and_tags_apart(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const int right = (rank + 1) % size, left = (rank + size - 1) % size;
  constexpr int kMessages = 20;
  std::vector<std::int64_t> sent(2 * kMessages), received(2 * kMessages, -1);
  std::vector<std::unique_ptr<Work>> under_way;
  for (int m = 0; m < kMessages; ++m) {
    for (const int tag : {0, 32767}) {
      auto& value = sent[static_cast<std::size_t>(2 * m + (tag > 0))];
      value = 1000 * rank + 2 * m + (tag > 0);
      under_way.push_back(communicator.start_send(&value, sizeof value, right, tag));
    }
  }
  for (const int tag : {32767, 0}) {   // the other way round
    for (int m = 0; m < kMessages; ++m) {
      communicator.receive(&received[static_cast<std::size_t>(2 * m + (tag > 0))], sizeof(std::int64_t), left, tag);
    }
  }
  for (auto& work : under_way) work->wait();
  for (std::size_t i = 0; i < received.size(); ++i) EXPECT_EQ(received[i], 1000 * left + static_cast<std::int64_t>(i));
}

void messages_of_every_size(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  for (const std::int64_t bytes : kSizes) {
    const std::vector<char> mine(static_cast<std::size_t>(bytes), static_cast<char>(rank + 1));
    std::vector<char> theirs(static_cast<std::size_t>(bytes));
    const auto receive = communicator.start_receive(theirs.data(), bytes, (rank + size - 1) % size, 3);   // posted first
    communicator.start_send(mine.data(), bytes, (rank + 1) % size, 3)->wait();
    receive->wait();
    EXPECT_EQ(std::count(theirs.begin(), theirs.end(), static_cast<char>((rank + size - 1) % size + 1)), bytes) << bytes;
  }
}

void probe_tells_who_and_how_long(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  EXPECT_FALSE(communicator.probe(-1, 9).has_value());
  communicator.barrier();
  const std::string text(static_cast<std::size_t>(rank) + 1, 'x');
  const auto sent = communicator.start_send(text.data(), rank + 1, 0, 9);
  if (rank == 0) {
    std::vector<bool> seen(static_cast<std::size_t>(size));
    for (int messages = 0; messages < size;) {
      const auto incoming = communicator.probe(-1, 9);
      if (!incoming) continue;
      EXPECT_EQ(incoming->bytes, incoming->from + 1);
      EXPECT_EQ(communicator.probe(incoming->from, 9)->bytes, incoming->bytes) << "a probe takes nothing away";
      EXPECT_FALSE(communicator.probe(incoming->from, 10).has_value()) << "another tag";
      std::string into(static_cast<std::size_t>(incoming->bytes), ' ');
      communicator.receive(into.data(), incoming->bytes, incoming->from, 9);
      EXPECT_FALSE(seen[static_cast<std::size_t>(incoming->from)]);
      seen[static_cast<std::size_t>(incoming->from)] = true;
      ++messages;
    }
  }
  sent->wait();
}

void split_makes_groups_ordered_by_key(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const auto group = communicator.split(rank % 2, -rank);   // evens and odds, backwards
  const int members = rank % 2 == 0 ? (size + 1) / 2 : size / 2;
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(group->backend(), communicator.backend());
  EXPECT_EQ(group->size(), members);
  EXPECT_EQ(group->rank(), members - 1 - rank / 2);
  const std::int64_t sum = group->all_reduce(static_cast<std::int64_t>(rank));
  EXPECT_EQ(sum, rank % 2 == 0 ? members * (members - 1) : members * members);
  const auto first = communicator.split(rank == 0 ? 0 : -1, 0);
  EXPECT_EQ(first != nullptr, rank == 0);
  EXPECT_TRUE(!first || first->size() == 1);
}

void a_duplicate_is_a_channel_of_its_own(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const auto twin = communicator.duplicate();
  EXPECT_EQ(twin->backend(), communicator.backend());
  EXPECT_EQ(twin->rank(), rank);
  EXPECT_EQ(twin->size(), size);
  const int a = 2 * rank, b = 2 * rank + 1;
  const auto sent_a = communicator.start_send(&a, sizeof a, (rank + 1) % size, 1);
  const auto sent_b = twin->start_send(&b, sizeof b, (rank + 1) % size, 1);
  int from_twin = -1, from_first = -1;
  twin->receive(&from_twin, sizeof from_twin, (rank + size - 1) % size, 1);
  communicator.receive(&from_first, sizeof from_first, (rank + size - 1) % size, 1);
  EXPECT_EQ(from_twin, from_first + 1);
  sent_a->wait();
  sent_b->wait();
}

/// Batches of gradients on one thread, records on another, in no order between the two.
void the_twin_may_be_used_by_another_thread(Communicator& communicator) {
  const int size = communicator.size();
  const auto twin = communicator.duplicate();
  std::int64_t records = 0;
  std::thread other([&] {
    for (std::int64_t i = 0; i < 50; ++i) records += twin->all_reduce(i);
  });
  std::int64_t sums = 0;
  for (std::int64_t i = 0; i < 50; ++i) sums += communicator.all_reduce(2 * i);
  other.join();
  EXPECT_EQ(records, size * 50 * 49 / 2);
  EXPECT_EQ(sums, size * 50 * 49);
}

void texts_of_any_length(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const auto text_of = [](int r) { return std::string(static_cast<std::size_t>(r) * 1000, static_cast<char>('a' + r)); };
  const auto all = communicator.all_gather(text_of(rank));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], text_of(r));
  EXPECT_EQ(communicator.broadcast(text_of(rank), size - 1), text_of(size - 1));
}

void scalars(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  EXPECT_EQ(communicator.all_reduce(0.5 * rank), 0.25 * size * (size - 1));
  EXPECT_EQ(communicator.all_reduce(0.5 * rank, ReduceOp::max), 0.5 * (size - 1));
  EXPECT_EQ(communicator.all_reduce(std::int64_t{rank + 3}, ReduceOp::min), 3);
}

/// Whatever is drawn, all ranks draw it alike: operations in one order, any number of them in flight.
void random_plans(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  for (std::uint64_t plan = 0; plan < 20; ++plan) {
    Random random(plan, Purpose::synthetic);
    std::vector<std::vector<std::int32_t>> data;
    std::vector<std::int32_t> expected;
    std::vector<std::unique_ptr<Work>> under_way;
    const auto calls = static_cast<int>(1 + random.below(12));
    data.reserve(static_cast<std::size_t>(calls));
    for (int call = 0; call < calls; ++call) {
      auto& values = data.emplace_back(random.below(5000), rank + call);
      const auto count = static_cast<std::int64_t>(values.size());
      if (random.below(3) == 0) {
        const auto root = static_cast<int>(random.below(static_cast<std::uint64_t>(size)));
        under_way.push_back(communicator.start_broadcast(values.data(), count * 4, root));
        expected.push_back(root + call);
      } else {
        under_way.push_back(communicator.start_all_reduce(values.data(), count, DType::int32, ReduceOp::sum));
        expected.push_back(size * (size - 1) / 2 + size * call);
      }
    }
    Random order(plan, Purpose::order, static_cast<std::uint64_t>(rank));
    for (const auto i : permutation(calls, order)) under_way[static_cast<std::size_t>(i)]->wait();
    for (std::size_t call = 0; call < data.size(); ++call) {
      EXPECT_EQ(std::count(data[call].begin(), data[call].end(), expected[call]), static_cast<std::int64_t>(data[call].size()))
          << "plan " << plan << ", call " << call;
    }
  }
}

}  // namespace

const std::vector<ConformanceCase>& conformance_cases() {
  static const std::vector<ConformanceCase> cases{
      {"all_reduce", all_reduce},
      {"halves_accumulate_in_float32", halves_accumulate_in_float32},
      {"all_ranks_get_the_same_bits", all_ranks_get_the_same_bits},
      {"broadcast", broadcast},
      {"all_gather", all_gather},
      {"several_in_flight_completed_in_any_order", several_in_flight_completed_in_any_order},
      {"destroying_work_waits_for_it", destroying_work_waits_for_it},
      {"point_to_point_keeps_order_and_tags_apart", point_to_point_keeps_order_and_tags_apart},
      {"messages_of_every_size", messages_of_every_size},
      {"probe_tells_who_and_how_long", probe_tells_who_and_how_long},
      {"split_makes_groups_ordered_by_key", split_makes_groups_ordered_by_key},
      {"a_duplicate_is_a_channel_of_its_own", a_duplicate_is_a_channel_of_its_own},
      {"the_twin_may_be_used_by_another_thread", the_twin_may_be_used_by_another_thread},
      {"texts_of_any_length", texts_of_any_length},
      {"scalars", scalars},
      {"random_plans", random_plans},
  };
  return cases;
}

}  // namespace tugline
