// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "tugline/parallel/communicator.hpp"

namespace tugline::mpi {

/// True when this process was started by an MPI launcher (Open MPI, MPICH, PMIx, Slurm's PMI): looks at the environment.
bool launched_by_mpi();

/// MPI_Init_thread on construction, MPI_Finalize on destruction; an MPI that the program started itself is joined and left
/// running. All communicators made from it must be gone before it goes.
class Session {
 public:
  Session(int& argc, char**& argv);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// Collective. A duplicate of MPI_COMM_WORLD with MPI_ERRORS_RETURN.
  std::unique_ptr<Communicator> world();
  std::string description() const;   ///< "mpi (Open MPI v4.1.4), thread level serialized"

 private:
  bool owner_ = false;      // started MPI, so ends it
  bool multiple_ = false;   // MPI_THREAD_MULTIPLE
};

}  // namespace tugline::mpi
