# Installs a build into a folder, moves that folder, and builds and runs the consumer and the
# example against it: what was installed must not remember where it was built or first stood.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${scratch})
run(${CMAKE_COMMAND} --install ${build} --prefix ${scratch}/first)
file(RENAME ${scratch}/first ${scratch}/prefix)
function(build_against_prefix source folder)
  run(${CMAKE_COMMAND} -G Ninja -S ${source} -B ${folder}
      -D CMAKE_BUILD_TYPE=Release -D CMAKE_PREFIX_PATH=${scratch}/prefix
      -D CMAKE_CXX_COMPILER=${compiler} -D CMAKE_CXX_COMPILER_LAUNCHER=${launcher})
  run(${CMAKE_COMMAND} --build ${folder})
endfunction()
build_against_prefix(${consumer} ${scratch}/build)
run(${scratch}/build/consumer ${scratch}/model.gguf)
build_against_prefix(${example} ${scratch}/example)
run(${scratch}/example/window)
