#include "perpend/train/text_dataset.h"

#include <algorithm>
#include <fstream>
#include <future>
#include <limits>
#include <thread>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

class LineReader {
 public:
  LineReader(const Tokenizer& tokenizer, std::optional<std::int32_t> end_token)
      : tokenizer_(tokenizer), end_token_(end_token) {}

  // `place` begins errors.
  TrainingSequence read(const std::string& line, const std::string& place) const {
    const nlohmann::json object = parse_json_object(line, place);
    const bool whole = object.contains("text");
    if (object.size() != (whole ? 1 : 2)) fail(place);
    TrainingSequence sequence;
    append(sequence, tokens_of(object, whole ? "text" : "prompt", true, place),
           whole ? 1.0F : 0.0F);
    if (!whole) append(sequence, tokens_of(object, "completion", false, place), 1.0F);
    // A model's answer, given as tokens, has its end.
    const bool has_end = !whole && object["completion"].is_array() && !sequence.tokens.empty() &&
                         sequence.tokens.back() == end_token_;
    if (end_token_ && !has_end) {
      sequence.tokens.push_back(*end_token_);
      sequence.weights.push_back(1.0F);
    }
    return sequence;
  }

 private:
  [[noreturn]] static void fail(const std::string& place) {
    throw IoError(place +
                  R"(: expected {"text": "..."} or {"prompt": "...", "completion": "..."}, )"
                  "each a text or a list of token ids");
  }

  std::vector<std::int32_t> tokens_of(const nlohmann::json& object, const char* key, bool begins,
                                      const std::string& place) const {
    const auto found = object.find(key);
    if (found == object.end()) fail(place);
    if (found->is_string()) {
      return tokenizer_.encode(found->get<std::string>(),
                               {.add_special_tokens = begins, .parse_special = true});
    }
    if (!found->is_array()) fail(place);
    std::vector<std::int32_t> tokens;
    for (const nlohmann::json& token : *found) {
      constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
      if (!token.is_number_integer() || token < 0 || token > kMost) fail(place);
      tokens.push_back(token.get<std::int32_t>());
    }
    return tokens;
  }

  static void append(TrainingSequence& sequence, const std::vector<std::int32_t>& tokens,
                     float weight) {
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    sequence.weights.resize(sequence.tokens.size(), weight);
  }

  const Tokenizer& tokenizer_;
  std::optional<std::int32_t> end_token_;
};

struct Line {
  int number = 0;
  std::string text;
};

// Those that are not empty.
std::vector<Line> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw IoError(path + ": can not be read");
  std::vector<Line> lines;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    if (text.find_first_not_of(" \t\r") != std::string::npos) lines.push_back({number, text});
  }
  if (file.bad()) throw IoError(path + ": can not be read to its end");
  return lines;
}

}  // namespace

std::vector<TrainingSequence> read_text_examples(const std::string& path,
                                                 const Tokenizer& tokenizer,
                                                 std::optional<std::int32_t> end_token) {
  const LineReader reader(tokenizer, end_token);
  const std::vector<Line> lines = read_lines(path);
  std::vector<TrainingSequence> examples(lines.size());
  const auto read_part = [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      examples[i] = reader.read(lines[i].text, concat(path, ":", lines[i].number));
    }
  };
  constexpr std::size_t kLeastLines = 256;  // that are worth a thread
  const std::size_t num_parts = std::clamp<std::size_t>(lines.size() / kLeastLines, 1,
                                                        std::thread::hardware_concurrency() + 1);
  std::vector<std::future<void>> parts;
  for (std::size_t part = 0; part < num_parts; ++part) {
    parts.push_back(std::async(std::launch::async, read_part, part * lines.size() / num_parts,
                               (part + 1) * lines.size() / num_parts));
  }
  // The first error in the order of lines.
  for (std::future<void>& part : parts) part.get();
  return examples;
}

}  // namespace perpend
