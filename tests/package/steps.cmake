# SPDX-License-Identifier: Apache-2.0
# What both package tests do: run a command or stop with its output; configure an outside project as its author would.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE _output ERROR_VARIABLE _output RESULT_VARIABLE _status)
  if(NOT _status EQUAL 0)
    list(JOIN ARGN " " _command)
    message(FATAL_ERROR "exit status ${_status}: ${_command}\n${_output}")
  endif()
  set(output "${_output}" PARENT_SCOPE)
endfunction()

function(expect text pattern)
  if(NOT text MATCHES "${pattern}")
    message(FATAL_ERROR "expected '${pattern}' in\n${text}")
  endif()
endfunction()

# configure(PROJECT FOLDER [-D...]): a fresh build folder. Nothing of the consumer's says which C++ it wants.
function(configure project folder)
  file(REMOVE_RECURSE "${folder}")
  if(SANITIZE)
    string(APPEND FLAGS " -fsanitize=${SANITIZE}")
  endif()
  run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${project}" -B "${folder}" -G "${GENERATOR}"
    "-DCMAKE_CXX_COMPILER=${CXX}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${CCACHE}" "-DCMAKE_CXX_FLAGS=${FLAGS}" ${ARGN})
endfunction()
