# SPDX-License-Identifier: Apache-2.0
# add_unit_test(NAME [TORCH] SOURCES ... LINK ... [TIMEOUT s]): one process, one ctest entry.
# add_mpi_test(NAME [TORCH] SOURCES ... LINK ... RANKS 1 2 3 4 [TIMEOUT s]): one ctest entry per rank count.
# Both run on the main of tests/support (mpi_main for MPI tests).
# add_host_test(NAME LAYOUT...): that MPI test once more on hosts of its own, one ctest entry per layout; see tests/support/host_lab.sh.
# LABELS cuda: of those that say something else in a build with CUDA; the target cuda_tests builds them.
add_custom_target(cuda_tests)
set(_env "OMP_NUM_THREADS=1;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
# Under AddressSanitizer: absurd sizes are refused as without it, with an exception. Open MPI leaks, and unloads the plugins that did before
# LeakSanitizer could tell whose leaks to overlook: no leaks where it runs.
set(TUGLINE_TEST_ENV "${_env};ASAN_OPTIONS=allocator_may_return_null=1")
set(TUGLINE_MPI_TEST_ENV "${_env};ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0")

function(add_unit_test name)
  cmake_parse_arguments(arg "TORCH" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
  _tugline_test_binary(${name} GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
  _tugline_test_properties(${name} unit)
endfunction()

function(add_mpi_test name)
  cmake_parse_arguments(arg "TORCH" "TIMEOUT" "SOURCES;LINK;LABELS;RANKS" ${ARGN})
  _tugline_test_binary(${name} tugline_mpi_main)
  foreach(ranks IN LISTS arg_RANKS)
    add_test(NAME ${name}.${ranks} COMMAND ${MPIEXEC_EXECUTABLE} -q --oversubscribe --bind-to none
      ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${name}> --gtest_brief=1)
    _tugline_test_properties(${name}.${ranks} mpi)
    set_tests_properties(${name}.${ranks} PROPERTIES PROCESSORS 2 ENVIRONMENT "${TUGLINE_MPI_TEST_ENV}")
  endforeach()
endfunction()

function(add_host_test name)
  foreach(layout IN LISTS ARGN)
    set(entry ${name}.hosts-${layout})
    add_test(NAME ${entry} COMMAND ${PROJECT_SOURCE_DIR}/tests/support/host_lab.sh ${layout} -- $<TARGET_FILE:${name}> --gtest_brief=1)
    _tugline_test_properties(${entry} hosts)
    set_tests_properties(${entry} PROPERTIES PROCESSORS 2 RESOURCE_LOCK host_lab ENVIRONMENT "${TUGLINE_MPI_TEST_ENV}")
  endforeach()
endfunction()

macro(_tugline_test_binary name main)
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} ${main} GTest::gmock GTest::gtest)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(arg_TORCH)
    tugline_use_torch(${name})
  endif()
  if("cuda" IN_LIST arg_LABELS)
    add_dependencies(cuda_tests ${name})
  endif()
endmacro()

macro(_tugline_test_properties entry label)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  set_tests_properties(${entry} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${label};${arg_LABELS}" ENVIRONMENT "${TUGLINE_TEST_ENV}"
    SKIP_RETURN_CODE 125)
endmacro()
