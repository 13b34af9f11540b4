// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <ostream>

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include "tugline/core/device.hpp"
#include "tugline/parallel/nccl/device_api.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/apps/command.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace po = boost::program_options;

ExitCode doctor_command(const Invocation& invocation) {
  const Command& command = command_named("doctor");
  po::options_description options("Options");
  options.add_options()("help,h", "this text")("json", "one JSON document")(
      "ranks", "only this: how fast is each rank? takes 5 seconds")(
      "devices", "only this: how fast are copies to and from each rank's GPU, and sums over NCCL?");
  if (wants_help(invocation)) {
    invocation.out << help_of(command, &options);
    return ExitCode::done;
  }
  po::variables_map values;
  Arguments arguments;
  std::shared_ptr<DeviceApi> api;
  agree(invocation.world.control(), [&] {
    arguments = parse_arguments(invocation, command, options, values, 0, 1);
    for (const char* only : {"ranks", "devices"}) {
      if (values.count(only) == 0) continue;
      if (!arguments.words.empty()) throw UsageError(fmt::format("--{} looks at no folder; usage: tugline {}", only, command.usage));
      if (values.count("ranks") + values.count("devices") > 1) throw UsageError("give --ranks or --devices, not both");
    }
    if (values.count("devices") == 0) return;
    device_from("cuda", invocation.world.local_rank());   // says best why there is none
    api = make_cuda_device_api();
  });
  const ReportFormat format = values.count("json") > 0 ? ReportFormat::json : ReportFormat::text;
  if (values.count("ranks") > 0) return static_cast<ExitCode>(run_speed_doctor(invocation.world, invocation.out, format));
  if (api) return static_cast<ExitCode>(run_device_doctor(invocation.world, api, invocation.out, format));
  const std::string folder = arguments.words.empty() ? "runs" : arguments.words[0];
  return static_cast<ExitCode>(run_doctor(invocation.world, folder, invocation.out, format));
}

}  // namespace tugline
