# SPDX-License-Identifier: Apache-2.0
# Everything Tugline stands on. MPI and HDF5 through their own finders, LibTorch through ours (see FindLibTorch.cmake).
if(NOT PROJECT_IS_TOP_LEVEL)
  set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)   # the folder above links Tugline and so needs these too
endif()
set(CMAKE_THREAD_PREFER_PTHREAD ON)
find_package(Threads REQUIRED)
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI REQUIRED COMPONENTS C)
find_package(Boost 1.81 REQUIRED COMPONENTS json program_options iostreams)
find_package(yaml-cpp REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(Eigen3 3.3 REQUIRED NO_MODULE)
pkg_check_modules(nlopt REQUIRED IMPORTED_TARGET GLOBAL nlopt)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET GLOBAL libxxhash)
# The serial library by pkg-config: FindHDF5 asks h5cc, which drags in libcurl and libcrypto.
pkg_search_module(hdf5 REQUIRED IMPORTED_TARGET GLOBAL hdf5-serial hdf5)
if(NOT TARGET hdf5::hdf5)   # a user's own find_package(HDF5) makes one too
  add_library(hdf5::hdf5 INTERFACE IMPORTED GLOBAL)
  target_link_libraries(hdf5::hdf5 INTERFACE PkgConfig::hdf5)
endif()
if(TARGET yaml-cpp AND NOT TARGET yaml-cpp::yaml-cpp)
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
# Function names for messages that say who called what. It is a part of GCC, of some distributions; others get addresses.
execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=libbacktrace.a
  OUTPUT_VARIABLE _libbacktrace OUTPUT_STRIP_TRAILING_WHITESPACE)
cmake_path(GET _libbacktrace PARENT_PATH _gcc)
if(_gcc AND EXISTS "${_gcc}/include/backtrace.h" AND NOT TARGET libbacktrace::libbacktrace)
  add_library(libbacktrace::libbacktrace INTERFACE IMPORTED GLOBAL)
  target_link_libraries(libbacktrace::libbacktrace INTERFACE "${_libbacktrace}")
  # The file itself: clang must not find GCC's other headers beside it.
  target_compile_definitions(libbacktrace::libbacktrace INTERFACE BOOST_STACKTRACE_USE_BACKTRACE
    "BOOST_STACKTRACE_BACKTRACE_INCLUDE_FILE=\"${_gcc}/include/backtrace.h\"")
endif()
if(TUGLINE_TORCH)
  find_package(LibTorch REQUIRED)
endif()
if(TUGLINE_CUDA)
  find_package(CUDAToolkit 12 REQUIRED)
  find_package(NCCL 2.18 REQUIRED)
endif()
if(TUGLINE_TESTS)
  find_package(GTest REQUIRED)
endif()
