// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/range_server.hpp"

#include <exception>
#include <utility>

namespace tugline {

RangeServer::RangeServer(Communicator& channel, RangeAccess& ranges, RangeDesk::Options options)
    : desk_(std::make_shared<RangeDesk>(channel, ranges, std::move(options))), serving_(thread_.start(desk_)),
      exceptions_(std::uncaught_exceptions()) {}

RangeServer::~RangeServer() {
  desk_->stop(std::uncaught_exceptions() > exceptions_);
  serving_.reset();
}

void RangeServer::check() { serving_->test(); }

}  // namespace tugline
