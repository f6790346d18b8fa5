#pragma once

#include <cstdint>
#include <string>

#include "perpend/cli/device_rates.h"
#include "perpend/core/device.h"

namespace perpend {

// A network of a named shape with random weights, made where it runs.
struct ModelBenchmark {
  std::string shape = "smollm2-135m";
  std::string layers;  // masks; empty: causal everywhere
  std::string preset;  // instead of them, see parse_preset()
  Device device;
  std::int64_t prompt = 512;  // tokens of each sequence
  std::int64_t tokens = 64;   // decoded after it
  std::int64_t batch = 1;
  std::int64_t chunk = 2048;  // rows of a prefill pass
  int reps = 3;               // prefills, of which the median counts
  int threads = 0;
  bool without_graph = false;
  bool library_products = false;  // LibTorch's for few rows too
};

// Medians of wall-clock times, and what bounds them.
struct ModelTimes {
  double prefill_ms = 0;       // of all prompts, one after another
  double prefill_flops = 0;    // products with weights, and attention on live pairs
  double decode_ms = 0;        // of one token of every sequence
  double decode_bytes = 0;     // weights once, and the pages of keys and values that are held
  double first_decode_ms = 0;  // the first step, which is launched: the second captures
  bool is_captured = false;    // decoding, as a CUDA graph
  bool uses_library_products = true;  // for few rows too
  std::int64_t weight_bytes = 0;
  std::int64_t kv_bytes = 0;       // held after the last token
  std::int64_t kv_peak_bytes = 0;  // of prefill too
  DeviceRates rates;

  double prefill_bound_ms() const { return rates.bound_ms(0, prefill_flops); }
  double decode_bound_ms() const { return rates.bound_ms(decode_bytes, 0); }
};

// Throws InvalidArgument for a shape that is not known, masks that can not be read and sizes that
// are not positive, Unsupported and OutOfMemory where the device does not do.
ModelTimes time_model(const ModelBenchmark& benchmark);

}  // namespace perpend
