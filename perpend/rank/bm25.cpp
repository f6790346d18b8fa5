#include "perpend/rank/bm25.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace perpend {
namespace {

// The letter in lower case, 0 for what is between words.
char word_letter(char letter) {
  if ((letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9')) return letter;
  if (letter >= 'A' && letter <= 'Z') return static_cast<char>(letter - 'A' + 'a');
  return static_cast<unsigned char>(letter) >= 0x80 ? letter : '\0';
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char letter : text) {
    const char lower = word_letter(letter);
    if (lower != '\0') {
      word += lower;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

Bm25::Bm25(std::span<const std::string> texts, const Bm25Options& options) : options_(options) {
  double total = 0;
  for (const std::string& text : texts) {
    const auto index = static_cast<std::uint32_t>(lengths_.size());
    const std::vector<std::string> words = words_of(text);
    for (const std::string& word : words) {
      const auto [place, is_new] = word_ids_.emplace(word, words_.size());
      if (is_new) words_.emplace_back();
      std::vector<Posting>& postings = words_[place->second].postings;
      if (postings.empty() || postings.back().text != index) postings.push_back({index, 0});
      ++postings.back().count;
    }
    lengths_.push_back(static_cast<double>(words.size()));
    total += lengths_.back();
  }
  mean_length_ = total / std::max(1.0, static_cast<double>(lengths_.size()));
  set_idfs();
}

void Bm25::set_idfs() {
  double sum = 0;
  for (Word& word : words_) {
    const auto holding = static_cast<double>(word.postings.size());
    word.idf = std::log(static_cast<double>(size()) - holding + 0.5) - std::log(holding + 0.5);
    sum += word.idf;
  }
  const double least = options_.floor * sum / std::max(1.0, static_cast<double>(words_.size()));
  for (Word& word : words_) {
    if (word.idf < 0) word.idf = least;
  }
}

std::vector<double> Bm25::scores(std::string_view query) const {
  std::vector<double> scores(size(), 0.0);
  for (const std::string& text : words_of(query)) {
    const auto place = word_ids_.find(text);
    if (place == word_ids_.end()) continue;
    const Word& word = words_[place->second];
    for (const Posting& posting : word.postings) {
      const double count = posting.count;
      const double length = lengths_[posting.text] / mean_length_;
      scores[posting.text] += word.idf * count * (options_.k1 + 1) /
                              (count + options_.k1 * (1 - options_.b + options_.b * length));
    }
  }
  return scores;
}

std::vector<std::size_t> Bm25::best(std::string_view query, std::size_t count) const {
  const std::vector<double> scores = this->scores(query);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] != 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), count));
  return order;
}

}  // namespace perpend
