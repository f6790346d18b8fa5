#include "perpend/io/tokenizer/gguf_pre_tokenizer.h"

#include <algorithm>
#include <array>

namespace perpend {
namespace {

constexpr std::array<GgufPreTokenizer, 4> kKinds = {
    {{.name = "smollm", .digits_alone = true},
     {.name = "gpt-2"},
     {.name = "llama-bpe", .scanner = WordScanner::kLlama3, .ignore_merges = true, .add_bos = true},
     {.name = "qwen2", .scanner = WordScanner::kQwen2, .nfc = true}}};

std::string_view usual_name(std::string_view name) {
  if (name.empty() || name == "default") return "gpt-2";
  if (name == "llama3" || name == "llama-v3") return "llama-bpe";
  return name;
}

}  // namespace

std::span<const GgufPreTokenizer> gguf_pre_tokenizers() { return kKinds; }

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
  const auto* found = std::find_if(kKinds.begin(), kKinds.end(), [&](const GgufPreTokenizer& kind) {
    return kind.name == usual_name(name);
  });
  return found == kKinds.end() ? nullptr : found;
}

}  // namespace perpend
