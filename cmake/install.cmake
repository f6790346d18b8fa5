include(CMakePackageConfigHelpers)
install(TARGETS ${perpend_libraries} EXPORT perpend_targets FILE_SET HEADERS)
install(EXPORT perpend_targets NAMESPACE perpend::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/perpend)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/perpend-config.cmake.in
  ${PROJECT_BINARY_DIR}/perpend-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/perpend)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/perpend-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/perpend-config.cmake
              ${PROJECT_BINARY_DIR}/perpend-config-version.cmake
              ${PROJECT_SOURCE_DIR}/cmake/pkg_config_targets.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/perpend)
if(PERPEND_TORCH)
  # The program finds what comes with it beside its bin/, and LibTorch where it was linked.
  set_target_properties(perpend_cli PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS perpend_cli RUNTIME OPTIONAL)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/assets/ DESTINATION ${CMAKE_INSTALL_DATADIR}/perpend)
endif()
