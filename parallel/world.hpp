// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// All ranks of a job. `main` owns the only one; it starts the backend and ends it. Under mpirun or srun the MPI backend,
/// otherwise one rank without MPI. Constructor and destructor are collective.
class World {
 public:
  /// `backend`: "auto", "mpi" or "threads" (one rank, no MPI). MPI is started with MPI_THREAD_SERIALIZED or better.
  World(int& argc, char**& argv, const std::string& backend = "auto");
  /// Takes a ready communicator: tests, ranks that are threads.
  explicit World(std::unique_ptr<Communicator> communicator);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const;
  int size() const;
  int local_rank() const;          ///< among the ranks of this host
  int local_size() const;
  const std::vector<std::string>& hosts() const;   ///< one name per rank
  int num_hosts() const;
  int host_index() const;          ///< of this rank's host, in the order of their first ranks
  int fewest_on_a_host() const;    ///< the smallest local_size() of all ranks
  Communicator& communicator();    ///< gradients
  Communicator& control();         ///< records, agreement, evaluation; same ranks, a channel of its own
  /// Debug mode (checked_communicator.hpp): from now on all ranks compare each collective of both before they make it. Collective; call
  /// it before anything keeps a reference to them.
  void debug_collectives();
  std::string description() const; ///< "2 ranks on 1 host, mpi (Open MPI 4.1.4), thread level serialized"

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Threads for this rank, of the cores that it may use: all of them, or its part where other ranks may use them too. Collective.
int default_threads(World& world);

/// An error that every rank throws alike: rank 0 prints it, all leave by the same door.
class AgreedError : public Error {
 public:
  AgreedError(ExitCode code, const std::string& what, std::source_location where = std::source_location::current())
      : Error(code, what, where) {}
};

/// Runs `body`, which may throw, on every rank and agrees on the outcome (collective): when all succeed, returns; when all fail
/// alike or some fail, every rank throws the lowest failing rank's error (same kind, same text). For phases such as
/// reading config and data, where every rank must leave by the same door.
void agree(Communicator& control, const std::function<void()>& body);

/// Compares (name, value) facts across ranks (collective). Throws AgreedError (ExitCode::disagree) naming the first that differs, the
/// ranks and both values. Ranks must pass the same names in the same order.
void require_equal(Communicator& control, const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace tugline
