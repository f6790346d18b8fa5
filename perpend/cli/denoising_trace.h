#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "perpend/decode/text_generator.h"

namespace perpend {

// Every step of an answer of a diffusion model, for a file: an object with prompt_tokens,
// block_size, mask_token_id, text, tokens (ids of the answer) and steps. A step has kind (denoise,
// or context: tokens that are final), block and rows as [begin, end), keys, and filled: objects
// with position, id, token, confidence and logprob.
class DenoisingTrace {
 public:
  void add(const CanvasStep& step, const Tokenizer& tokenizer);
  // Throws IoError.
  void write(const std::string& path, const GenerateResult& result,
             const DiffusionConfig& model) const;

 private:
  nlohmann::ordered_json steps_ = nlohmann::ordered_json::array();
};

}  // namespace perpend
