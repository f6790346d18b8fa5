# Binaries for Hopper (sm_90a) and Ampere (sm_80), and PTX of compute_80 for everything newer. This
# CMake gives nvcc no C++20 flag of its own, hence the explicit -std.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(PERPEND_CUDA_STRICT -std=c++20 --expt-relaxed-constexpr -Werror=all-warnings -Xptxas=-v)
if(PERPEND_RACECHECK)
  list(APPEND PERPEND_CUDA_STRICT -DPERPEND_RACECHECK -lineinfo)
endif()
set(PERPEND_PTXAS_LOG ${CMAKE_CURRENT_LIST_DIR}/ptxas_log.sh)
set(PERPEND_HOPPER_FLAGS ${PERPEND_CUDA_STRICT} -gencode=arch=compute_90a,code=sm_90a)
set(PERPEND_CUDA_FLAGS ${PERPEND_HOPPER_FLAGS}
  -gencode=arch=compute_80,code=sm_80
  -gencode=arch=compute_80,code=compute_80)
