# What every test finds in its environment.
set(perpend_test_environment
  PYTHONPATH=${PROJECT_SOURCE_DIR}/tests
  TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/tsan.supp)
if(PERPEND_SANITIZE)
  list(APPEND perpend_test_environment PERPEND_SHORT=1)
endif()
# perpend_long_test(NAME SECONDS): ctest begins with the longest, so that no core is idle at the end.
function(perpend_long_test name seconds)
  if(TEST ${name})
    set_tests_properties(${name} PROPERTIES COST ${seconds})
  endif()
endfunction()

# The test programs labelled `threads`, `gpu` and `emulated`, which are less to build than everything. With sanitizers
# those of the emulated GPU take minutes, so that there they are no part of it.
add_custom_target(threads_tests)
add_custom_target(gpu_tests)
add_custom_target(emulated_tests)

# perpend_add_test(NAME SOURCES file... [LIBRARIES target...] [LABELS label...]): a GoogleTest program,
# one ctest entry. Those labelled `gpu` count as not run where nothing of them could.
function(perpend_add_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  set(main GTest::gtest_main)
  if("gpu" IN_LIST arg_LABELS)
    list(APPEND arg_SOURCES ${PROJECT_SOURCE_DIR}/tests/gpu_test_main.cpp)
    set(main)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE perpend ${arg_LIBRARIES} GTest::gtest GTest::gmock ${main})
  perpend_strict(${name})
  # Time is better spent on what is tested.
  target_compile_options(${name} PRIVATE -Wno-conversion $<$<CONFIG:Release>:-O1>)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" SKIP_RETURN_CODE 77
                                          ENVIRONMENT "${perpend_test_environment}")
  foreach(label threads gpu emulated)
    if("${label}" IN_LIST arg_LABELS)
      add_dependencies(${label}_tests ${name})
    endif()
  endforeach()
  if(PERPEND_SANITIZE AND "emulated" IN_LIST arg_LABELS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
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
  set_tests_properties(${name} PROPERTIES LABELS oracle
                                          ENVIRONMENT "${perpend_test_environment}")
endfunction()

# What a Python script that imports torch finds in its environment: the torch of PERPEND_TORCH_ROOT, and
# perpend from the build tree.
function(perpend_torch_environment variable)
  cmake_path(GET PERPEND_TORCH_ROOT PARENT_PATH site)
  set(environment ${perpend_test_environment})
  list(FILTER environment EXCLUDE REGEX "^PYTHONPATH=")
  list(APPEND environment "PYTHONPATH=${PROJECT_BINARY_DIR}/python:${site}:${PROJECT_SOURCE_DIR}/tests")
  if(PERPEND_CUDA_STAND_INS)
    list(APPEND environment TORCH_USE_RTLD_GLOBAL=1 LD_LIBRARY_PATH=${PERPEND_CUDA_STAND_INS})
  endif()
  set(${variable} ${environment} PARENT_SCOPE)
endfunction()

# perpend_add_torch_oracle_test(NAME script program...): an oracle test whose script imports torch.
function(perpend_add_torch_oracle_test name)
  perpend_add_oracle_test(${name} ${ARGN})
  if(TEST ${name})
    perpend_torch_environment(environment)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "${environment}")
  endif()
endfunction()

# perpend_add_python_test(NAME script): a Python script that imports perpend from the build tree, and the
# torch of PERPEND_TORCH_ROOT.
function(perpend_add_python_test name script)
  if(NOT PERPEND_ORACLE_PYTHON)
    message(STATUS "Python test ${name} left out: set PERPEND_ORACLE_PYTHON (./test does)")
    return()
  endif()
  perpend_torch_environment(environment)
  add_test(NAME ${name} COMMAND ${PERPEND_ORACLE_PYTHON} ${script})
  set_tests_properties(${name} PROPERTIES LABELS python ENVIRONMENT "${environment}")
endfunction()
