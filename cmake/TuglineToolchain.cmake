# SPDX-License-Identifier: Apache-2.0
# How every target is compiled. One set of flags for all: a precompiled header is shared only between equal ones.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O2: -O3 costs 10 % compile time and the hot loops are ATen's.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# -fPIC by hand: CMake gives executables -fPIE, and GCC refuses a precompiled header made with the other.
add_compile_options(-fPIC -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
option(TUGLINE_WERROR "Warnings are errors" OFF)
if(TUGLINE_WERROR)
  add_compile_options(-Werror)
endif()
if(TUGLINE_SANITIZE)
  add_compile_options(-fsanitize=${TUGLINE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)   # what they find ends a test
  add_link_options(-fsanitize=${TUGLINE_SANITIZE})
endif()

# A std::source_location that it can compile, so that it can build what needs no LibTorch: the fuzzers.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15)
  include_directories(BEFORE "${PROJECT_SOURCE_DIR}/cmake/clang14")
endif()

find_program(TUGLINE_CCACHE ccache)
# The base directory makes paths relative, so that build/release and build/cuda, and another clone, share what they compile alike.
if(TUGLINE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_ABSSTDERR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${TUGLINE_CCACHE})
endif()
find_program(TUGLINE_MOLD mold)
if(TUGLINE_MOLD AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  add_link_options(-fuse-ld=mold)
endif()
