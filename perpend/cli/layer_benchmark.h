#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perpend/core/device.h"
#include "perpend/mask/mask.h"

namespace perpend {

// Training passes through single layers of a named shape with random weights: one sequence, forward
// and backward, gradients of all weights and of the input, no optimizer.
struct LayerBenchmark {
  std::string shape = "llama2-7b";
  std::string layers;  // masks; empty: causal everywhere
  std::string preset;  // instead of them, see parse_preset()
  Device device;
  std::int64_t tokens = 8192;
  int reps = 10;  // passes, of which the median counts
  int threads = 0;
  bool recompute = false;
};

// Layers with one mask.
struct LayerTime {
  Mask mask;
  int num_layers = 0;
  std::vector<double> ms;      // each pass
  double product_flops = 0;    // of one layer: forward, to the input, to the weights
  double attention_flops = 0;  // of live pairs: 2 products forward, 5 backward

  double median_ms() const;
  double flops() const { return product_flops + attention_flops; }
};

struct LayerTimes {
  LayerTime causal;              // num_layers: all of the shape
  std::vector<LayerTime> kinds;  // one for each mask of the model, causal ones with those above

  // Of all layers one after another.
  double composed_ms() const;
  double composed_flops() const;
};

// Throws as time_model() does.
LayerTimes time_layers(const LayerBenchmark& benchmark);

}  // namespace perpend
