#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "perpend/decode/generate_options.h"
#include "perpend/decode/generate_result.h"
#include "perpend/models/loaded_model.h"

namespace perpend {

class RequestPlan;

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

  void prepare_cache(const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
                     const RequestPlan& plan);

  const LoadedModel& model_;
  Context& context_;
  DType kv_dtype_;
  std::int64_t prefix_bytes_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace perpend
