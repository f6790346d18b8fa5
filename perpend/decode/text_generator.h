#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/decode/block_loop.h"
#include "perpend/decode/diffusion_options.h"
#include "perpend/models/loaded_model.h"

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
  std::int64_t num_forward_rows =
      0;  // that these computed; of the cache elastic a mean over layers
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

// Hears of the work as it happens; false stops it (finish reason kCancelled). All may be empty.
struct GenerateCallbacks {
  // New whole characters.
  std::function<bool(std::string_view)> on_text;
  // After each chunk of the prompt but the last.
  std::function<bool(std::int64_t done, std::int64_t total)> on_prefill;
};

// Turns a prompt into text with a model, token by token or, for a model of diffusion, by blocks,
// keeping the keys of the last call: a prompt that continues
// it (the next turn of a conversation) runs only what is new. Any other prompt runs those blocks of
// prefill_chunk tokens, and of them those layers, that depend on something that no earlier prompt
// had in its place (decode/prompt_prefill.h), as long as they fit in `prefix_bytes`; prefill_chunk
// must be a multiple of the page size (64) for that.
class TextGenerator {
 public:
  // Borrows both. `kv_dtype` is how keys and values are stored; `prefix_bytes` of them are kept for
  // later prompts.
  TextGenerator(const LoadedModel& model, Context& context, DType kv_dtype,
                std::int64_t prefix_bytes = 0);
  ~TextGenerator();

  // Throws InvalidArgument when the prompt is empty or does not fit the context, and for options
  // outside their ranges. After an error the cache is empty and the generator can be used again.
  GenerateResult generate(const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
                          const GenerateCallbacks& callbacks = {});

 private:
  struct Cache;

  class Request;

  void check_request(const std::vector<std::int32_t>& prompt, const GenerateOptions& options) const;
  void prepare_cache(const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
                     const Request& request);

  const LoadedModel& model_;
  Context& context_;
  DType kv_dtype_;
  std::int64_t prefix_bytes_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace perpend
