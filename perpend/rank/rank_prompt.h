#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/models/text_side.h"

namespace perpend {

struct RankDocument {
  std::string id;
  std::string title = {};
  std::string text = {};
};

// A ranking prompt as the tokens of its blocks: the instruction, which everyone sees; documents,
// which see it and themselves; the query block, which sees all (arXiv:2510.05396, section 3).
struct RankPrompt {
  std::vector<std::int32_t> instruction;
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<std::int32_t> query;
};

// Writes the blocks of ranking prompts, in our wording, inside what the model's chat template puts
// around a message. Each block is tokenised alone, so that no token depends on its neighbours; the
// id in the text is the document's own, so that its tokens do not depend on its place in the list.
// What users write never becomes a special token.
class RankPrompter {
 public:
  // Borrows `tokenizer`.
  RankPrompter(const Tokenizer& tokenizer, ChatFrame frame)
      : tokenizer_(tokenizer), frame_(std::move(frame)) {}

  // Block 0; without the query, documents can be computed before any query is known.
  std::vector<std::int32_t> instruction(const std::string& query, bool with_query = true) const;

  struct Document {
    std::vector<std::int32_t> tokens;
    std::int64_t num_full_tokens = 0;  // what they would be without a limit
  };
  // A document of at most `max_tokens`: where there are more, its text is cut from the right and
  // the mark of its end stays. Throws InvalidArgument when the limit leaves no room for text.
  Document document(const RankDocument& document, std::int64_t max_tokens) const;

  // The last block, up to the bracket that opens the answer. Its last two tokens are those whose
  // attention ranks.
  std::vector<std::int32_t> query(const std::string& query) const;

  // What a model that was trained on such prompts writes next: ids and the closing bracket.
  std::vector<std::int32_t> answer(std::span<const std::string> ids) const;

 private:
  void append(const std::string& text, std::vector<std::int32_t>& tokens) const;

  const Tokenizer& tokenizer_;
  ChatFrame frame_;
};

}  // namespace perpend
