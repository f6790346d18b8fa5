#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/decode/sampler.h"

namespace perpend {

enum class FinishReason { kStop, kLength, kCancelled };

std::string_view name_of(FinishReason reason);

struct GenerateResult {
  std::string text;
  std::vector<Sample> samples;  // one a new token
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt, found in the cache of earlier calls
  // How often a token of the prompt ran a layer; num_layers times each without masks and caches.
  std::int64_t prefill_layer_tokens = 0;
  FinishReason finish_reason = FinishReason::kStop;
  // Passes after the prompt was run, with the last of it where that gave a token: one a token
  // without diffusion.
  std::int64_t num_forwards = 0;
  // Rows that these computed; of the cache elastic a mean over layers.
  std::int64_t num_forward_rows = 0;
  // Of the cache elastic: see ElasticState.
  std::vector<int> elastic_boundaries;
  std::int64_t elastic_layer_rows = 0;
  double time_to_first_token_ms = 0;  // from the call to the first new token
  double prefill_tokens_per_s = 0;    // prompt tokens run, over the time to the first token
  // Tokens after the first, or the first block, over their time; of one block alone all tokens over
  // all the time. 0 if there are none.
  double decode_tokens_per_s = 0;
  std::int64_t kv_bytes = 0;        // page bytes held after the last token
  std::int64_t kv_exact_bytes = 0;  // what they would be if the masks let no page go
  std::int64_t kv_peak_bytes = 0;

  double tokens_per_forward() const {
    return num_forwards == 0
               ? 0
               : static_cast<double>(samples.size()) / static_cast<double>(num_forwards);
  }
};

}  // namespace perpend
