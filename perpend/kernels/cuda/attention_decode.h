#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cuda/decode_memory.h"
#include "perpend/kernels/cuda/launch.h"

// The decode kernel (device/hopper_decode.cuh) and what adds up the items it cuts.

namespace perpend {

// What a launch needs beside the operands. Must outlive it.
struct DecodeState {
  DecodeLists lists;
  unsigned* counter = nullptr;
  device::SplitRows split = {};
};

// Whether the copy engine can load these keys: rows of whole chunks of 16 bytes, pages of whole
// boxes.
bool decode_takes(const AttentionArgs& args);

void launch_decode(const AttentionArgs& args, const DecodeState& state, const Launch& launch);

}  // namespace perpend
