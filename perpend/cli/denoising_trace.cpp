#include "perpend/cli/denoising_trace.h"

#include "perpend/io/atomic_file.h"

namespace perpend {

using nlohmann::ordered_json;

void DenoisingTrace::add(const CanvasStep& step, const Tokenizer& tokenizer) {
  ordered_json filled = ordered_json::array();
  for (const FilledToken& token : step.filled) {
    filled.push_back({{"position", token.position},
                      {"id", token.chosen.token},
                      {"token", tokenizer.decode({token.chosen.token}, false)},
                      {"confidence", token.confidence},
                      {"logprob", token.chosen.logprob}});
  }
  steps_.push_back({{"kind", step.denoises ? "denoise" : "context"},
                    {"block", {step.block.begin, step.block.end}},
                    {"rows", {step.rows.begin, step.rows.end}},
                    {"keys", step.num_keys},
                    {"filled", std::move(filled)}});
}

void DenoisingTrace::write(const std::string& path, const GenerateResult& result,
                           const DiffusionConfig& model) const {
  ordered_json tokens = ordered_json::array();
  for (const Sample& sample : result.samples) tokens.push_back(sample.chosen.token);
  const ordered_json trace{
      {"prompt_tokens", result.prompt_tokens}, {"block_size", model.block_size},
      {"mask_token_id", model.mask_token_id},  {"text", result.text},
      {"tokens", std::move(tokens)},           {"steps", steps_}};
  AtomicFile file(path);
  // A token may be half a character.
  file.write(trace.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  file.commit();
}

}  // namespace perpend
