#include "perpend/rank/rank_prompt.h"

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr const char* kTask =
    "Below are a search query and a list of documents. Each document is written as ID: <id> | "
    "CONTENT: <content> | END ID: <id>. Read all of them and find the one that answers the query "
    "best.\n";
constexpr const char* kQuestion =
    "\n\nThese were all documents. Which of them answers the query best? Name it by its ID.\n"
    "Query: ";
constexpr const char* kAnswerPrefix = "Best document:";
constexpr const char* kAnswerOpening = " [";

}  // namespace

void RankPrompter::append(const std::string& text, std::vector<std::int32_t>& tokens) const {
  const auto more = tokenizer_.encode(text, {.add_special_tokens = false, .parse_special = false});
  tokens.insert(tokens.end(), more.begin(), more.end());
}

std::vector<std::int32_t> RankPrompter::instruction(const std::string& query,
                                                    bool with_query) const {
  std::vector<std::int32_t> tokens = frame_.before;
  append(concat(kTask, with_query ? concat("Query: ", query, "\n\n") : "\n", "Documents:"), tokens);
  return tokens;
}

RankPrompter::Document RankPrompter::document(const RankDocument& document,
                                              std::int64_t max_tokens) const {
  const std::string opening = concat("\nID: ", document.id, " | CONTENT: ");
  Document result;
  append(concat(opening, document.title, document.title.empty() ? "" : " ", document.text),
         result.tokens);
  std::vector<std::int32_t> end;
  append(concat(" | END ID: ", document.id), end);
  const auto end_size = static_cast<std::int64_t>(end.size());
  const auto size = static_cast<std::int64_t>(result.tokens.size());
  result.num_full_tokens = size + end_size;
  if (result.num_full_tokens > max_tokens) {
    std::vector<std::int32_t> least;
    append(opening, least);
    check(static_cast<std::int64_t>(least.size()) + end_size <= max_tokens,
          concat("rank: document '", document.id, "': its id alone takes ",
                 least.size() + end.size(), " tokens, the limit is ", max_tokens));
    result.tokens.resize(static_cast<std::size_t>(max_tokens - end_size));
  }
  result.tokens.insert(result.tokens.end(), end.begin(), end.end());
  return result;
}

std::vector<std::int32_t> RankPrompter::query(const std::string& query) const {
  std::vector<std::int32_t> tokens;
  append(concat(kQuestion, query), tokens);
  tokens.insert(tokens.end(), frame_.after.begin(), frame_.after.end());
  append(kAnswerPrefix, tokens);
  append(kAnswerOpening, tokens);
  return tokens;
}

std::vector<std::int32_t> RankPrompter::answer(std::span<const std::string> ids) const {
  std::string text;
  for (const std::string& id : ids) text += (text.empty() ? "" : ", ") + id;
  std::vector<std::int32_t> tokens;
  append(text + "]", tokens);
  return tokens;
}

}  // namespace perpend
