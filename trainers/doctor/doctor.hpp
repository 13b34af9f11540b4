// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tugline/trainers/doctor/checks.hpp"
#include "tugline/trainers/doctor/device_probe.hpp"

namespace tugline {

class World;

enum class ReportFormat { text, json };

/// Collective. Looks at every rank's machine and at the file system below `folder`, where runs would go; rank 0 writes one
/// line per check to `out`, with what to do about each that is not ok. Returns 0, or 3 (ExitCode::check_said_no) when a
/// check fails; the same on every rank.
int run_doctor(World& world, const std::filesystem::path& folder, std::ostream& out,
               ReportFormat format = ReportFormat::text);

struct SpeedBudget {
  double seconds = 5;                                   ///< about
  std::int64_t buffer_bytes = std::int64_t{256} << 20;  ///< of each rank, at most
};

/// Collective. How fast is each rank, when all work at once? Rank 0 writes a table and a verdict to `out`. Returns 0, or 3
/// (ExitCode::check_said_no) when a rank is slower than 0.9 of the fastest; the same on every rank.
int run_speed_doctor(World& world, std::ostream& out, ReportFormat format = ReportFormat::text,
                     const SpeedBudget& budget = {});

/// Collective. How fast do copies to and from each rank's device go, and sums over NCCL, when all do the same? Rank 0 writes a table and a verdict
/// to `out`. Returns 0, or 3 (ExitCode::check_said_no) when a device copies at less than half the pace of the fastest; the same on every rank.
int run_device_doctor(World& world, const std::shared_ptr<DeviceApi>& api, std::ostream& out, ReportFormat format = ReportFormat::text,
                      const DeviceProbePlan& plan = {});

/// The report as written.
std::string report_text(const std::vector<Check>& checks);
std::string report_json(const std::vector<Check>& checks);

/// LibTorch as this process has it, and versions of libraries by name, for a run's environment.json.
TorchFacts torch_facts();
std::map<std::string, std::string> library_versions();

}  // namespace tugline
