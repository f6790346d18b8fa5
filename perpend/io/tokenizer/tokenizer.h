#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/io/tokenizer/gguf_tokenizer_data.h"

namespace perpend {

struct EncodeOptions {
  // Runs the post-processor's template: BOS, EOS, [CLS], [SEP] where the model wants them.
  bool add_special_tokens = true;
  // True: text that spells a special token becomes that token (for text of a chat template). False:
  // it is ordinary text, never obeyed (for text of a user).
  bool parse_special = false;
};

// Characters [begin, end) of a text: code points, an ill-formed run of bytes counting as one.
struct CharacterRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Token i came from the characters offsets[i] of the text; {0, 0} if none, as [CLS] does.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<CharacterRange> offsets;
};

class GgufFile;
struct TokenizerPipeline;  // internal: the parsed components

// Text to token ids and back: byte-level BPE, BPE with byte fallback and WordPiece behind any
// normalizers, pre-tokenizers, post-processors and decoders that tokenizer.json knows, but for
// Unigram and what goes with it. Unicode classes are those of utf8proc: characters assigned since
// may be cut differently than by a newer library. Immutable but for set_special_ids; every const
// member may be called from several threads. Input that is not UTF-8 is read with U+FFFD for each
// maximal ill-formed run (Unicode 15, 3.9, "substitution of maximal subparts"), as Python's
// errors="replace" does.
class Tokenizer {
 public:
  // From a GGUF file's metadata. `data` and what it points to are needed during the call only.
  // Throws IoError (ids out of range, arrays of unequal length) and Unsupported (model, pre).
  explicit Tokenizer(const GgufTokenizerData& data);
  explicit Tokenizer(std::unique_ptr<TokenizerPipeline> pipeline);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Throws InvalidArgument for a text on which a regular expression of the file takes too long.
  std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  Encoding encode_with_offsets(std::string_view text, EncodeOptions options = {}) const;
  // Valid UTF-8: bytes that form no character become U+FFFD. Ids that the vocabulary lacks are
  // passed over. skip_special leaves out special tokens.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const;
  std::string decode(std::initializer_list<std::int32_t> ids, bool skip_special = true) const {
    return decode(std::span<const std::int32_t>(ids.begin(), ids.size()), skip_special);
  }

  // What the token decodes to behind another token, perhaps only a part of a character; empty for
  // an unknown id.
  std::string token_bytes(std::int32_t id) const;
  // Text as the vocabulary spells it ("Ġthe"), added tokens included; empty for an unknown id.
  std::string_view id_to_token(std::int32_t id) const;
  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  bool is_special(std::int32_t id) const;
  // One more than the largest id.
  std::size_t vocab_size() const;
  // Named by GGUF; for tokenizer.json see set_special_ids.
  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  // tokenizer.json does not say which tokens begin and end a text; tokenizer_config.json does.
  void set_special_ids(std::optional<std::int32_t> bos, std::optional<std::int32_t> eos);

 private:
  friend class StreamingDetokenizer;

  bool is_decoded(std::int32_t id, bool skip_special) const;
  // What the decoder sees of a token that exists.
  std::string_view decoder_input(std::int32_t id) const;

  std::unique_ptr<TokenizerPipeline> pipeline_;
};

// From the text of a Hugging Face tokenizer.json; `name` (its path) begins every error. Throws
// IoError (not JSON, a missing or ill-typed field, merges of unknown tokens, ids that do not fit)
// and Unsupported (a component type that is not built; the text names it).
Tokenizer load_tokenizer_json(std::string_view json_text, const std::string& name);

// From the metadata of an open GGUF file. Throws as the constructor does, and IoError for fields of
// another type.
Tokenizer load_gguf_tokenizer(const GgufFile& file);

}  // namespace perpend
