# SPDX-License-Identifier: Apache-2.0
# Includes read "tugline/core/error.hpp": a link in the build tree makes it so.
include(GNUInstallDirs)
set(TUGLINE_INCLUDE_DIR "${PROJECT_BINARY_DIR}/include")
file(MAKE_DIRECTORY "${TUGLINE_INCLUDE_DIR}/tugline")
foreach(_part core parallel trainers tests)
  file(CREATE_LINK "${PROJECT_SOURCE_DIR}/${_part}" "${TUGLINE_INCLUDE_DIR}/tugline/${_part}" SYMBOLIC)
endforeach()

# tugline_library(NAME [TORCH] SOURCES ... [NARROW ...] [LOOPS ...] [LINK ...] [PRIVATE_LINK ...]): static library tugline_NAME, alias tugline::NAME.
# Those marked TORCH share one precompiled torch/torch.h, but for NARROW sources, which need neither torch/torch.h nor torch/nn:
# loading the 700 MB of that header would take longer than compiling them. LOOPS are narrow sources whose loops over arrays must become
# vectors, for which GCC 12 needs -O3.
function(tugline_library name)
  cmake_parse_arguments(arg "TORCH" "" "SOURCES;NARROW;LOOPS;LINK;PRIVATE_LINK" ${ARGN})
  add_library(tugline_${name} STATIC ${arg_SOURCES} ${arg_NARROW} ${arg_LOOPS})
  set_source_files_properties(${arg_NARROW} ${arg_LOOPS} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  set_property(SOURCE ${arg_LOOPS} APPEND PROPERTY COMPILE_OPTIONS $<$<CONFIG:Release>:-O3>)
  add_library(tugline::${name} ALIAS tugline_${name})
  set_target_properties(tugline_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY TUGLINE_LIBRARIES ${name})   # what TuglineInstall exports
  target_compile_features(tugline_${name} PUBLIC cxx_std_20)
  target_include_directories(tugline_${name} PUBLIC
    "$<BUILD_INTERFACE:${TUGLINE_INCLUDE_DIR}>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_link_libraries(tugline_${name} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  if(arg_TORCH)
    tugline_use_torch(tugline_${name})
  endif()
endfunction()

# Compiles a target against LibTorch with the shared precompiled header.
function(tugline_use_torch target)
  target_link_libraries(${target} PUBLIC LibTorch::LibTorch)
  if(NOT TARGET tugline_pch)
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/tugline_pch.cpp" CONTENT "// carries the precompiled header\n")
    add_library(tugline_pch STATIC "${PROJECT_BINARY_DIR}/tugline_pch.cpp")
    target_link_libraries(tugline_pch PRIVATE LibTorch::LibTorch)
    target_compile_options(tugline_pch PRIVATE -fpch-preprocess)
    target_compile_definitions(tugline_pch PRIVATE FMT_HEADER_ONLY=1)
    target_precompile_headers(tugline_pch PRIVATE <torch/torch.h>)
  endif()
  target_compile_options(${target} PRIVATE -fpch-preprocess)
  # LibTorch's include folder has a newer fmt than the system's library: its headers must not ask for that library.
  target_compile_definitions(${target} PRIVATE FMT_HEADER_ONLY=1)
  target_precompile_headers(${target} REUSE_FROM tugline_pch)
endfunction()
