// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "tugline/parallel/communicator.hpp"

namespace tugline::mpi {

/// True when this process was started by an MPI launcher (Open MPI, MPICH, PMIx, Slurm's PMI): looks at the environment.
bool launched_by_mpi();

/// MPI_Init_thread on construction, MPI_Finalize on destruction. One per process. All handles made from it must be gone before.
class Session {
 public:
  Session(int& argc, char**& argv);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  /// Collective. A duplicate of MPI_COMM_WORLD with MPI_ERRORS_RETURN.
  std::unique_ptr<Communicator> world();
  /// Collective. The ranks that share memory with this one.
  std::unique_ptr<Communicator> host(Communicator& world);
  std::string description() const;   ///< "mpi (Open MPI 4.1.4), thread level serialized"
};

}  // namespace tugline::mpi
