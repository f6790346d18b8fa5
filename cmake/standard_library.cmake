# LibTorch and Python bring the system's libstdc++ into a process. A compiler that has only a static one puts
# a second copy beside it, and streams that one of them made and the other destroyed end in an invalid free().
# The shared one, named before the compiler adds its own, then serves what both have.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libstdc++.so
                OUTPUT_VARIABLE shared_library OUTPUT_STRIP_TRAILING_WHITESPACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND NOT IS_ABSOLUTE "${shared_library}")
  message(STATUS "${CMAKE_CXX_COMPILER} has no shared libstdc++: the system's is linked")
  string(APPEND CMAKE_CXX_STANDARD_LIBRARIES " -l:libstdc++.so.6")
endif()
