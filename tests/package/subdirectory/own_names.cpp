// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

int own_name(const tugline::Error& error) { return static_cast<int>(error.exit_code()); }
