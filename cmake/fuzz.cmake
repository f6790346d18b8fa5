# perpend_add_fuzzer(NAME SOURCES file... CORPUS folder): a libFuzzer program, listed with its seeds in
# the build folder's fuzzers/ for tools/fuzz.sh.
function(perpend_add_fuzzer name)
  cmake_parse_arguments(arg "" "CORPUS" "SOURCES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE perpend_io)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  perpend_strict(${name})
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/fuzzers/${name}
       CONTENT "$<TARGET_FILE:${name}> ${arg_CORPUS}\n")
endfunction()
