#include <algorithm>

#include "perpend/core/error.h"
#include "perpend/io/gguf.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {
namespace {

std::optional<std::int64_t> gguf_id(const GgufFile& file, std::string_view key) {
  const auto id = file.get_u64(concat("tokenizer.ggml.", key));
  if (!id) return std::nullopt;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(*id, std::uint64_t{1} << 40));
}

}  // namespace

Tokenizer load_gguf_tokenizer(const GgufFile& file) {
  const auto tokens = file.get_strings("tokenizer.ggml.tokens");
  const auto types = file.get_ints("tokenizer.ggml.token_type");
  const auto scores = file.get_floats("tokenizer.ggml.scores");
  const auto merges = file.get_strings("tokenizer.ggml.merges");
  GgufTokenizerData data;
  data.name = file.name();
  data.model = file.require_string("tokenizer.ggml.model");
  data.pre = file.get_string("tokenizer.ggml.pre").value_or("");
  data.tokens = tokens;
  data.token_types = types;
  data.scores = scores;
  data.merges = merges;
  data.bos_id = gguf_id(file, "bos_token_id");
  data.eos_id = gguf_id(file, "eos_token_id");
  data.unk_id = gguf_id(file, "unknown_token_id");
  data.pad_id = gguf_id(file, "padding_token_id");
  data.sep_id = gguf_id(file, "seperator_token_id");  // the format's own spelling
  data.cls_id = gguf_id(file, "cls_token_id");
  data.add_bos = file.get_bool("tokenizer.ggml.add_bos_token");
  data.add_eos = file.get_bool("tokenizer.ggml.add_eos_token");
  data.add_space_prefix = file.get_bool("tokenizer.ggml.add_space_prefix");
  return Tokenizer(data);
}

}  // namespace perpend
