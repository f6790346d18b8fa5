#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "perpend/io/gguf.h"
#include "perpend/io/tokenizer/gguf_tokenizer_data.h"

namespace perpend {

// The tokenizer.ggml.* metadata of an open GGUF file, which must outlive it.
class GgufTokenizerFields {
 public:
  // Throws IoError for fields of another type.
  explicit GgufTokenizerFields(const GgufFile& file);
  GgufTokenizerFields(const GgufTokenizerFields&) = delete;
  GgufTokenizerFields& operator=(const GgufTokenizerFields&) = delete;

  const GgufTokenizerData& data() const { return data_; }

 private:
  std::vector<std::string_view> tokens_;
  std::vector<std::int32_t> token_types_;
  std::vector<float> scores_;
  std::vector<std::string_view> merges_;
  GgufTokenizerData data_;
};

}  // namespace perpend
