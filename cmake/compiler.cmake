# Compiler settings that every target of this project shares; nothing is set globally outside a target
# but the language level and the build type.
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(PERPEND_CCACHE ccache)
if(PERPEND_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PERPEND_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${PERPEND_CCACHE})
endif()

# Warnings as errors and the chosen sanitizers, for a target of ours. Floating-point contraction is
# off: two instruction sets must give the same bits where a header promises it; kernels that want a
# fused multiply-add ask for it by name.
function(perpend_strict target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wnon-virtual-dtor
      -Woverloaded-virtual -Werror -ffp-contract=off>)
  # GCC 12 sees overlaps in std::string's own operator+ (its bug 105651).
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
  # GCC 13 sees copies past the end inside its own std::vector<bool> where LibTorch is included, and
  # takes a function that is given a temporary name for one that returns a reference to it.
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds -Wno-stringop-overflow -Wno-dangling-reference>)
  endif()
  if(PERPEND_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${PERPEND_SANITIZE}
      -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${PERPEND_SANITIZE})
    # GCC loses track of moved-from optionals in instrumented code; other builds keep the warning.
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
  endif()
endfunction()

# perpend_unit(TARGET NAME file...): compiles these sources of a target as one. Headers take longer than what
# stands in most sources; a unit reads them once, and clang-tidy looks through them once. Kernels stay by
# themselves: what else stands in a unit changes what the compiler makes of them.
function(perpend_unit target name)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES UNITY_GROUP ${name})
endfunction()
