# perpend_add_test(NAME SOURCES file... [LIBRARIES target...] [LABELS label...]): a GoogleTest program,
# one ctest entry.
function(perpend_add_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE perpend ${arg_LIBRARIES} GTest::gtest GTest::gmock
                                        GTest::gtest_main)
  perpend_strict(${name})
  target_compile_options(${name} PRIVATE -Wno-conversion)
  add_test(NAME ${name} COMMAND ${name})
  if(arg_LABELS)
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}")
  endif()
  if(PERPEND_SANITIZE STREQUAL thread)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/tsan.supp)
  endif()
endfunction()

# perpend_add_oracle_test(NAME script program...): a Python script that holds our programs against a
# PyPI package. Registered only where PERPEND_ORACLE_PYTHON names an interpreter that has it.
function(perpend_add_oracle_test name script)
  if(NOT PERPEND_ORACLE_PYTHON)
    message(STATUS "oracle test ${name} left out: set PERPEND_ORACLE_PYTHON (./test does)")
    return()
  endif()
  set(programs)
  foreach(program ${ARGN})
    list(APPEND programs $<TARGET_FILE:${program}>)
  endforeach()
  add_test(NAME ${name}
           COMMAND ${PERPEND_ORACLE_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${programs})
  set_tests_properties(${name} PROPERTIES LABELS oracle)
endfunction()
