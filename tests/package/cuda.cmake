# SPDX-License-Identifier: Apache-2.0
# The program of a build with CUDA: it loads LibTorch's CUDA half, which no symbol asks for, and works where there is no driver.
include("${CMAKE_CURRENT_LIST_DIR}/steps.cmake")
set(_tugline "${BUILD}/bin/tugline")
set(_work "${BUILD}/tests/package/cuda")
file(REMOVE_RECURSE "${_work}")
run(readelf -d "${_tugline}")
expect("${output}" "NEEDED[^\n]*libtorch_cuda.so")
expect("${output}" "NEEDED[^\n]*libc10_cuda.so")
expect("${output}" "\\(RPATH\\)")   # RUNPATH is not searched for what a library needs in turn

run("${_tugline}" --version)
run("${_tugline}" doctor "${_work}/runs")
expect("${output}" "devices +[^\n]*; this build is for CPUs and CUDA 1[0-9]")
if(NOT EXISTS /proc/driver/nvidia)
  expect("${output}" "devices +none [^\n]*driver")
endif()
run("${_tugline}" train "${SOURCE}/configs/digits.yaml" train.epochs=2 --run-dir "${_work}/run")
file(READ "${_work}/run/result.json" _result)
expect("${_result}" "\"status\": \"done\"")
