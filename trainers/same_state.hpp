// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tugline {

class Communicator;
struct TrainState;

/// Parameters, averaged buffers and optimizer slots are equal on all ranks by construction: what differs was written by something else, and
/// training on would hide it. Collective. Throws AgreedError (ExitCode::disagree) that names the first tensor and rank.
void require_same_state(Communicator& control, const TrainState& state);

}  // namespace tugline
