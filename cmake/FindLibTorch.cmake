# SPDX-License-Identifier: Apache-2.0
# LibTorch::LibTorch, the CPU half of a LibTorch (archive, pip, conda). TorchConfig.cmake of the PyPI wheel insists on
# a CUDA toolkit, so this finder links torch_cpu and c10 alone; with TUGLINE_CUDA also torch_cuda and c10_cuda, and then
# there is LibTorch::CUDA for sources that include ATen/cuda or c10/cuda: CUDA's headers and runtime. Nothing else is
# compiled in another way, so both builds share their objects through ccache.
#   TUGLINE_LIBTORCH (cache or environment): a folder that holds include/ and lib/, or one that holds such a torch/.
# -DTUGLINE_LIBTORCH wins at first; later, an environment variable that has changed since the last configure does.
set(_environment "$ENV{TUGLINE_LIBTORCH}")
if(_environment)
  get_filename_component(_environment "${_environment}" ABSOLUTE BASE_DIR "${PROJECT_SOURCE_DIR}")
endif()
if(NOT TUGLINE_LIBTORCH OR (DEFINED TUGLINE_LIBTORCH_ENVIRONMENT AND NOT _environment STREQUAL TUGLINE_LIBTORCH_ENVIRONMENT))
  if(_environment)
    set(TUGLINE_LIBTORCH "${_environment}" CACHE PATH "LibTorch: a folder with include/ and lib/" FORCE)
  elseif(TUGLINE_LIBTORCH STREQUAL TUGLINE_LIBTORCH_ENVIRONMENT)
    unset(TUGLINE_LIBTORCH CACHE)
  endif()
endif()
set(TUGLINE_LIBTORCH_ENVIRONMENT "${_environment}" CACHE INTERNAL "")
set(TUGLINE_LIBTORCH "${PROJECT_SOURCE_DIR}/build/deps/libtorch-2.11.0"
  CACHE PATH "LibTorch: a folder with include/ and lib/")
set(LibTorch_ROOT_DIR "${TUGLINE_LIBTORCH}")
if(NOT EXISTS "${LibTorch_ROOT_DIR}/include/ATen/ATen.h" AND EXISTS "${LibTorch_ROOT_DIR}/torch/include/ATen/ATen.h")
  string(APPEND LibTorch_ROOT_DIR "/torch")
endif()
# Not cached: another TUGLINE_LIBTORCH must not meet the files of the last one.
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h PATHS "${LibTorch_ROOT_DIR}/include" NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
find_library(LibTorch_C10_LIBRARY c10 PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
set(_parts "LibTorch_CPU_LIBRARY:lib/libtorch_cpu.so" "LibTorch_C10_LIBRARY:lib/libc10.so" "LibTorch_INCLUDE_DIR:include/torch")
if(TUGLINE_CUDA)
  find_library(LibTorch_CUDA_LIBRARY torch_cuda PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda PATHS "${LibTorch_ROOT_DIR}/lib" NO_DEFAULT_PATH NO_CACHE)
  list(APPEND _parts "LibTorch_CUDA_LIBRARY:lib/libtorch_cuda.so" "LibTorch_C10_CUDA_LIBRARY:lib/libc10_cuda.so")
  find_package(CUDAToolkit 12 QUIET)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "TUGLINE_CUDA needs the CUDA toolkit, version 12 or newer (13 for the LibTorch of scripts/setup.sh): install "
      "it, put its nvcc on the PATH or set CUDAToolkit_ROOT, or configure with --preset release.")
  endif()
endif()
if(LibTorch_FIND_REQUIRED)   # in one sentence, which FindPackageHandleStandardArgs is not made for
  set(_missing "")
  foreach(_part IN LISTS _parts)
    string(REGEX MATCH "^([^:]*):(.*)$" _part "${_part}")
    if(NOT ${CMAKE_MATCH_1})
      list(APPEND _missing "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  if(_missing)
    list(JOIN _missing ", " _missing)
    message(FATAL_ERROR "No LibTorch in '${TUGLINE_LIBTORCH}' (no ${_missing}): set TUGLINE_LIBTORCH to a folder with "
      "include/ and lib/, or unset it and run scripts/setup.sh.")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR)
if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  set(_rpaths "${LibTorch_ROOT_DIR}/lib")
  # A wheel's CUDA libraries lie beside it.
  file(GLOB _nvidia "${LibTorch_ROOT_DIR}/../nvidia/*/lib")
  list(APPEND _rpaths ${_nvidia})
  if(TUGLINE_CUDA)
    list(APPEND _rpaths "${CUDAToolkit_LIBRARY_DIR}")   # last: LibTorch's own libraries are the versions it was built with
  endif()
  add_library(LibTorch::c10 UNKNOWN IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
  add_library(LibTorch::LibTorch UNKNOWN IMPORTED)
  set_target_properties(LibTorch::LibTorch PROPERTIES IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}")
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::c10 Threads::Threads)
  # DT_RPATH, not DT_RUNPATH: only the former is searched for what libtorch_cpu.so itself needs (libcupti).
  target_link_options(LibTorch::LibTorch INTERFACE "-Wl,--disable-new-dtags")
  foreach(_dir IN LISTS _rpaths)
    target_link_options(LibTorch::LibTorch INTERFACE "-Wl,-rpath,${_dir}" "-Wl,-rpath-link,${_dir}")
  endforeach()
  if(TUGLINE_CUDA)
    # LibTorch finds its CUDA half by its being loaded: no symbol asks for it, so --as-needed (Ubuntu's default) would drop it.
    target_link_libraries(LibTorch::LibTorch INTERFACE
      "-Wl,--push-state,--no-as-needed,${LibTorch_CUDA_LIBRARY},${LibTorch_C10_CUDA_LIBRARY},--pop-state")
    add_library(LibTorch::CUDA INTERFACE IMPORTED)
    target_link_libraries(LibTorch::CUDA INTERFACE LibTorch::LibTorch CUDA::cudart)
  endif()
endif()
