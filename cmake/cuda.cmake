# Binaries for Hopper (sm_90a) and Ampere (sm_80), and PTX of compute_80 for everything newer. This
# CMake gives nvcc no C++20 flag of its own, hence the explicit -std.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(PERPEND_CUDA_FLAGS
  -std=c++20 --expt-relaxed-constexpr
  -gencode=arch=compute_90a,code=sm_90a
  -gencode=arch=compute_80,code=sm_80
  -gencode=arch=compute_80,code=compute_80
  -Werror=all-warnings)
