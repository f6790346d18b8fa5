#pragma once

#include <optional>
#include <string>
#include <vector>

#include "perpend/decode/answer_agreement.h"
#include "perpend/decode/text_generator.h"

namespace perpend {

// One of two answers to a prompt.
struct ComparedAnswer {
  std::string title;
  std::string key;    // in JSON
  std::string cache;  // empty: not told
  GenerateResult result;
  std::vector<RecordedStep> steps;
  double seconds = 0;  // of the whole call
};

struct AnswerPair {
  ComparedAnswer first;
  ComparedAnswer second;
  std::optional<AnswerAgreement> agreement;  // where both write tokens of one vocabulary
};

// Prints a pair to standard output: a table and the texts side by side in `columns` cells, or a
// line of JSON. `name`, where there are several prompts, tells it from others.
void print_text(const AnswerPair& pair, const std::string& name, const Tokenizer& tokenizer,
                int columns);
void print_json(const AnswerPair& pair, const std::string& name);

// Of many prompts.
class ComparisonTotal {
 public:
  void add(const AnswerPair& pair);
  std::int64_t num_prompts() const { return num_prompts_; }
  void print_text() const;
  void print_json() const;

 private:
  struct Side {
    std::string title;
    std::string key;
    std::int64_t num_tokens = 0;
    std::int64_t num_forwards = 0;
    std::int64_t num_rows = 0;
    double seconds = 0;
  };
  static void add(const ComparedAnswer& answer, Side& side);

  Side first_ = {};
  Side second_ = {};
  std::int64_t num_prompts_ = 0;
  std::int64_t num_same_ = 0;                 // prompts whose answers are equal
  std::optional<AnswerAgreement> agreement_;  // counts alone
};

}  // namespace perpend
