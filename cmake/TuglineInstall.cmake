# SPDX-License-Identifier: Apache-2.0
# `cmake --install` and find_package(tugline). Every library that tugline_library() made is exported; tugline::tugline is all
# of them.
include(CMakePackageConfigHelpers)
get_property(_libraries GLOBAL PROPERTY TUGLINE_LIBRARIES)

add_library(tugline_all INTERFACE)
add_library(tugline::tugline ALIAS tugline_all)
set_target_properties(tugline_all PROPERTIES EXPORT_NAME tugline)
foreach(_library IN LISTS _libraries)
  target_link_libraries(tugline_all INTERFACE tugline::${_library})
  install(TARGETS tugline_${_library} EXPORT tuglineTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endforeach()
install(TARGETS tugline_all EXPORT tuglineTargets)
if(TARGET tugline)
  # The installed program needs the same LibTorch, whose path FindLibTorch puts in: CMake must not rewrite it.
  set_target_properties(tugline PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS tugline RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY core parallel trainers DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tugline
  FILES_MATCHING PATTERN "*.hpp" PATTERN hdf5_handle.hpp EXCLUDE)

set(_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tugline)
install(EXPORT tuglineTargets NAMESPACE tugline:: DESTINATION ${_package_dir})
configure_package_config_file(cmake/tuglineConfig.cmake.in "${PROJECT_BINARY_DIR}/tuglineConfig.cmake"
  INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tuglineConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tuglineConfig.cmake" "${PROJECT_BINARY_DIR}/tuglineConfigVersion.cmake"
  cmake/FindLibTorch.cmake cmake/FindNCCL.cmake cmake/TuglineDependencies.cmake DESTINATION ${_package_dir})
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
