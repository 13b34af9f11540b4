// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <ostream>

#include "tugline/core/error.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/doctor/doctor.hpp"
#include "tugline/trainers/doctor/free_memory.hpp"
#include "tugline/trainers/doctor/speed_verdict.hpp"

namespace tugline {
namespace {

/// The same on all ranks, so that all do the same work: what the largest cache asks for, if the smallest memory allows it.
std::int64_t agreed_buffer_bytes(World& world, std::int64_t most_bytes) {
  const std::int64_t cache = world.control().all_reduce(std::int64_t{::sysconf(_SC_LEVEL3_CACHE_SIZE)}, ReduceOp::max);
  const std::int64_t mine = std::min(most_bytes, stream_buffer_bytes(cache, free_memory_bytes(), world.local_size()));
  return world.control().all_reduce(mine, ReduceOp::min);
}

}  // namespace

int run_speed_doctor(World& world, std::ostream& out, ReportFormat format, const SpeedBudget& budget) {
  const auto arithmetic = matrix_work();
  const auto memory = stream_work(agreed_buffer_bytes(world, budget.buffer_bytes));
  const ProbePlan plan{.total_seconds = budget.seconds, .round_seconds = budget.seconds / 100};
  const SpeedVerdict verdict = judge_speeds(probe_speeds(world, *arithmetic, *memory, plan));
  if (world.rank() == 0) out << (format == ReportFormat::json ? speed_json(verdict) : speed_text(verdict)) << std::flush;
  return static_cast<int>(verdict.good ? ExitCode::done : ExitCode::check_said_no);
}

}  // namespace tugline
