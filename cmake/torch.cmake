# LibTorch from the PyPI wheel, linked by name: the wheel's own CMake package asks for the CUDA toolkit
# even where only libtorch_cpu is used. PERPEND_TORCH_ROOT is .../site-packages/torch.
set(PERPEND_TORCH_ROOT "$ENV{PERPEND_TORCH_ROOT}" CACHE PATH "Folder of the torch wheel")
if(NOT EXISTS "${PERPEND_TORCH_ROOT}/lib/libtorch_cpu.so")
  message(FATAL_ERROR
    "LibTorch not found: set PERPEND_TORCH_ROOT to the torch folder of a Python environment with "
    "torch 2.11.0 (.../site-packages/torch); ./run and ./test do this for you.")
endif()

add_library(perpend_libtorch INTERFACE)
target_include_directories(perpend_libtorch SYSTEM INTERFACE
  ${PERPEND_TORCH_ROOT}/include ${PERPEND_TORCH_ROOT}/include/torch/csrc/api/include)
# libtorch_cpu of a CUDA wheel names CUDA libraries that only the loader needs to find.
target_link_libraries(perpend_libtorch INTERFACE
  ${PERPEND_TORCH_ROOT}/lib/libtorch_cpu.so ${PERPEND_TORCH_ROOT}/lib/libc10.so)
target_link_options(perpend_libtorch INTERFACE
  -Wl,--allow-shlib-undefined -Wl,--unresolved-symbols=ignore-in-shared-libs
  -Wl,-rpath,${PERPEND_TORCH_ROOT}/lib)

add_library(perpend_torch STATIC)
add_library(perpend::torch ALIAS perpend_torch)
target_compile_features(perpend_torch PUBLIC cxx_std_20)
target_include_directories(perpend_torch PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
target_sources(perpend_torch PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR})
target_link_libraries(perpend_torch PUBLIC perpend perpend_io perpend_libtorch)
perpend_strict(perpend_torch)

# LibTorch's headers take ten seconds of every source that includes them: with this a target reads
# them once. Others do not pay: what a precompiled header defines inline is compiled again by each source.
function(perpend_precompile_torch target)
  target_precompile_headers(${target} PRIVATE <torch/types.h>)
  # What ccache needs to keep objects that were made from precompiled headers.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endfunction()
perpend_precompile_torch(perpend_torch)
