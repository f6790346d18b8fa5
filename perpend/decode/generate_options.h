#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/decode/diffusion_options.h"
#include "perpend/mask/mask.h"

namespace perpend {

struct GenerateOptions {
  std::int64_t max_tokens = 256;
  SamplerOptions sampler = {};
  std::vector<std::string> stop = {};  // text that ends the answer; not part of it
  int num_top_logprobs = 0;            // alternatives reported beside each token
  std::vector<Mask> layer_masks = {};  // one a layer; empty: those of the model
  std::int64_t prefill_chunk = 512;
  DiffusionOptions diffusion = {};  // for models of diffusion alone
  // Whether keys that were made while an answer was decoded serve a prompt that continues it. They
  // may differ in the last bits from those that a prefill makes; without them an answer is, bit for
  // bit, that of a generator without a past.
  bool reuse_decoded = true;
};

// Hears of the work as it happens; false stops it (finish reason kCancelled). All may be empty.
struct GenerateCallbacks {
  // New whole characters.
  std::function<bool(std::string_view)> on_text;
  // After each chunk of the prompt but the last.
  std::function<bool(std::int64_t done, std::int64_t total)> on_prefill;
};

}  // namespace perpend
