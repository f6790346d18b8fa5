#include "perpend/io/tokenizer/score_merges.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

// Finding the pairs that make a token takes time square in its length.
constexpr std::size_t kMaxTokenBytes = 1024;

bool is_merged(GgufTokenType type) {
  return is_made_by_model(type) && type != GgufTokenType::kByte;
}

void check_scores(const GgufTokenizerData& data) {
  if (data.scores.empty() && !data.tokens.empty()) {
    throw IoError(concat(data.name, ": tokenizer.ggml.scores is missing; model llama needs it"));
  }
  if (std::any_of(data.scores.begin(), data.scores.end(), [](float s) { return std::isnan(s); })) {
    throw IoError(concat(data.name, ": tokenizer.ggml.scores: expected numbers, found NaN"));
  }
}

// Ids by falling score, equal ones by id.
std::vector<std::int32_t> ids_by_score(std::span<const float> scores) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [&](std::int32_t id) { return scores[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return score(a) > score(b); });
  return order;
}

}  // namespace

std::vector<ScoreMerge> merges_by_score(const GgufTokenizerData& data,
                                        const Vocabulary& vocabulary) {
  check_scores(data);
  std::vector<ScoreMerge> merges;
  std::int32_t rank = 0;
  float last_score = std::numeric_limits<float>::infinity();
  for (const std::int32_t id : ids_by_score(data.scores)) {
    const auto index = static_cast<std::size_t>(id);
    // Equal scores get equal ranks.
    if (data.scores[index] < last_score) ++rank;
    last_score = data.scores[index];
    if (!is_merged(type_of(data, index))) continue;
    const std::string token = valid_utf8(data.tokens[index]);
    if (token.size() > kMaxTokenBytes) {
      throw IoError(concat(data.name, ": token ", id, " has ", token.size(),
                           " bytes; expected at most ", kMaxTokenBytes));
    }
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if (is_utf8_continuation(token[cut])) continue;
      const auto left = vocabulary.find(std::string_view(token).substr(0, cut));
      const auto right = vocabulary.find(std::string_view(token).substr(cut));
      if (left && right) merges.push_back({*left, *right, id, rank});
    }
  }
  std::sort(merges.begin(), merges.end(), [](const ScoreMerge& a, const ScoreMerge& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  });
  return merges;
}

}  // namespace perpend
