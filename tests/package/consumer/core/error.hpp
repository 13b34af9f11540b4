// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace consumer {

/// Has the name of a header of Tugline's; both are included.
struct Error {
  int code = 0;
};

}  // namespace consumer
