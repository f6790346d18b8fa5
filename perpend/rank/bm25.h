#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace perpend {

struct Bm25Options {
  double k1 = 1.5;      // how soon more occurrences of a word stop to count
  double b = 0.75;      // how much a long text is held against it; 0: not at all
  double floor = 0.25;  // words in more than half of all texts count as this share of the mean
};

// Which texts have the rare words of a query: the first stage of a ranking. Okapi BM25 (Robertson
// et al., TREC-3, 1994): with N texts, n(w) of them holding the word w, f(w, t) times in a text t
// of |t| words,
//   score(t) = sum over words w of the query of idf(w) f (k1 + 1) / (f + k1 (1 - b + b |t| / mean))
//   idf(w)   = log((N - n + 0.5) / (n + 0.5)), or `floor` times the mean idf of all words where
//              that is negative
// Words are runs of ASCII letters, digits and bytes beyond ASCII, in lower case.
class Bm25 {
 public:
  explicit Bm25(std::span<const std::string> texts, const Bm25Options& options = {});

  std::size_t size() const { return lengths_.size(); }
  // [texts], 0 where no word of the query is.
  std::vector<double> scores(std::string_view query) const;
  // The texts with a word of the query, best first and at most `count`; equal ones in their order.
  std::vector<std::size_t> best(std::string_view query, std::size_t count) const;

 private:
  struct Posting {
    std::uint32_t text = 0;
    std::uint32_t count = 0;
  };
  struct Word {
    std::vector<Posting> postings;
    double idf = 0;
  };

  void set_idfs();

  Bm25Options options_;
  std::vector<double> lengths_;  // in words
  double mean_length_ = 0;
  std::unordered_map<std::string, std::size_t> word_ids_;
  std::vector<Word> words_;
};

// The words of a text as Bm25 sees them.
std::vector<std::string> words_of(std::string_view text);

}  // namespace perpend
