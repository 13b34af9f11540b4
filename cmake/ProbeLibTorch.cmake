# SPDX-License-Identifier: Apache-2.0
# Decides whether the LibTorch that was found will do: compiles, links and runs libtorch_probe.cpp. Fifteen seconds, so
# the answer is remembered until the library, the compiler or the probe changes.
set(_probe "${CMAKE_CURRENT_LIST_DIR}/libtorch_probe.cpp")
file(TIMESTAMP "${LibTorch_CPU_LIBRARY}" _library_time "%s" UTC)
file(SHA1 "${_probe}" _probe_digest)
set(_key "${CMAKE_CXX_COMPILER} ${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_CXX_FLAGS}")
string(APPEND _key " ${LibTorch_CPU_LIBRARY} ${_library_time} ${_probe_digest}")
if(NOT "${TUGLINE_LIBTORCH_ACCEPTED}" STREQUAL "${_key}")
  message(STATUS "Trying LibTorch in ${LibTorch_ROOT_DIR}")
  unset(TUGLINE_PROBE_EXIT CACHE)
  unset(TUGLINE_PROBE_COMPILES CACHE)
  try_run(TUGLINE_PROBE_EXIT TUGLINE_PROBE_COMPILES "${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_probe" SOURCES "${_probe}"
    LINK_LIBRARIES LibTorch::LibTorch
    COMPILE_OUTPUT_VARIABLE _compile_output
    RUN_OUTPUT_VARIABLE _run_output
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON)
  set(_log "${CMAKE_BINARY_DIR}/CMakeFiles/libtorch_probe.log")
  file(WRITE "${_log}" "${_compile_output}\n${_run_output}\n")
  if(TUGLINE_PROBE_COMPILES AND TUGLINE_PROBE_EXIT EQUAL 0)
    set(TUGLINE_LIBTORCH_ACCEPTED "${_key}" CACHE INTERNAL "The LibTorch that passed the probe")
  else()
    if(TUGLINE_PROBE_COMPILES)
      string(STRIP "${_run_output}" _run_output)
      string(REGEX REPLACE "\n.*" "" _reason "${_run_output}")
      if(_reason STREQUAL "")
        set(_reason "it crashes (${TUGLINE_PROBE_EXIT})")
      endif()
      set(_reason "a program linked with it does not run: ${_reason}")
    elseif(_compile_output MATCHES "undefined (reference|symbol)[^\n]*show_config" AND
           NOT _compile_output MATCHES "undefined (reference|symbol)[^\n]*at::_ops")
      set(_reason "its std::string is not this compiler's (C++ ABI); take one with the CXX11 ABI")
    elseif(_compile_output MATCHES "ld returned|linker command failed")
      set(_reason "programs do not link with it")
    else()
      set(_reason "its headers do not compile as C++20")
    endif()
    message(FATAL_ERROR "LibTorch in '${LibTorch_ROOT_DIR}' is refused: ${_reason}. Set TUGLINE_LIBTORCH to another one, "
      "or unset it and run scripts/setup.sh; the compiler's words are in ${_log}.")
  endif()
endif()
