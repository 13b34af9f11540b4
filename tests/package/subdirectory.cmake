# SPDX-License-Identifier: Apache-2.0
# A project that has this tree below its own configures, gets neither tests nor examples, and compiles against
# the headers.
include("${CMAKE_CURRENT_LIST_DIR}/steps.cmake")
set(_build "${BUILD}/tests/package/subdirectory")
# The probe of LibTorch takes 15 seconds and has its answer already.
configure(subdirectory "${_build}" "-DTUGLINE_SOURCE=${SOURCE}" "-DTUGLINE_LIBTORCH=${LIBTORCH}"
  "-DTUGLINE_LIBTORCH_ACCEPTED=${ACCEPTED}" "-DTUGLINE_CUDA=${CUDA}")
file(STRINGS "${_build}/CMakeCache.txt" _options REGEX "^TUGLINE_(TESTS|EXAMPLES):")
expect("${_options}" "TUGLINE_EXAMPLES:BOOL=OFF;TUGLINE_TESTS:BOOL=OFF")
run("${CMAKE_COMMAND}" --build "${_build}" --target own_names)
