#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace perpend {

// The tokenizer.ggml.* metadata of a GGUF file, borrowed from whoever read it. Every id indexes
// `tokens`.
struct GgufTokenizerData {
  std::string name = "GGUF tokenizer";  // begins every error, e.g. the file's path
  std::string_view model;               // "gpt2", "llama" or "bert"
  std::string_view pre;                 // "smollm", "gpt-2", "llama-bpe", "qwen2", ...; gpt2 only
  std::span<const std::string_view> tokens;
  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; one a token, or empty:
  // normal.
  std::span<const std::int32_t> token_types;
  std::span<const float> scores;             // llama: one a token; higher merges first
  std::span<const std::string_view> merges;  // gpt2: "left right", best first
  std::optional<std::int64_t> bos_id;
  std::optional<std::int64_t> eos_id;
  std::optional<std::int64_t> unk_id;
  std::optional<std::int64_t> pad_id;
  std::optional<std::int64_t> sep_id;  // bert
  std::optional<std::int64_t> cls_id;  // bert
  // Absent: the model's custom (llama: BOS and a prefix space; others: neither).
  std::optional<bool> add_bos;
  std::optional<bool> add_eos;
  std::optional<bool> add_space_prefix;
};

}  // namespace perpend
