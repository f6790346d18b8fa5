#pragma once

#include "perpend/kernels/cuda/device/wgmma_bf16.cuh"
#include "perpend/kernels/cuda/device/wgmma_f16.cuh"
