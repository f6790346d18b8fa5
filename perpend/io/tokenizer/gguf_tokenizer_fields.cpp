#include "perpend/io/tokenizer/gguf_tokenizer_fields.h"

#include <algorithm>

#include "perpend/core/concat.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {
namespace {

std::optional<std::int64_t> gguf_id(const GgufFile& file, std::string_view key) {
  const auto id = file.get_u64(concat("tokenizer.ggml.", key));
  if (!id) return std::nullopt;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(*id, std::uint64_t{1} << 40));
}

}  // namespace

GgufTokenizerFields::GgufTokenizerFields(const GgufFile& file)
    : tokens_(file.get_strings("tokenizer.ggml.tokens")),
      token_types_(file.get_ints("tokenizer.ggml.token_type")),
      scores_(file.get_floats("tokenizer.ggml.scores")),
      merges_(file.get_strings("tokenizer.ggml.merges")) {
  data_.name = file.name();
  data_.model = file.require_string("tokenizer.ggml.model");
  data_.pre = file.get_string("tokenizer.ggml.pre").value_or("");
  data_.tokens = tokens_;
  data_.token_types = token_types_;
  data_.scores = scores_;
  data_.merges = merges_;
  data_.bos_id = gguf_id(file, "bos_token_id");
  data_.eos_id = gguf_id(file, "eos_token_id");
  data_.unk_id = gguf_id(file, "unknown_token_id");
  data_.pad_id = gguf_id(file, "padding_token_id");
  data_.sep_id = gguf_id(file, "seperator_token_id");  // the format's own spelling
  data_.cls_id = gguf_id(file, "cls_token_id");
  data_.add_bos = file.get_bool("tokenizer.ggml.add_bos_token");
  data_.add_eos = file.get_bool("tokenizer.ggml.add_eos_token");
  data_.add_space_prefix = file.get_bool("tokenizer.ggml.add_space_prefix");
}

Tokenizer load_gguf_tokenizer(const GgufFile& file) {
  return Tokenizer(GgufTokenizerFields(file).data());
}

}  // namespace perpend
