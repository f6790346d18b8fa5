#include "perpend/cli/comparison_report.h"

#include <iostream>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/report.h"
#include "perpend/io/text_layout.h"

namespace perpend {
namespace {

double per(double amount, double of) { return of > 0 ? amount / of : 0; }

std::string token_text(const Tokenizer& tokenizer, const GenerateResult& result,
                       std::int64_t index) {
  if (index >= std::ssize(result.samples)) return "no more";
  const std::int32_t token = result.samples[static_cast<std::size_t>(index)].chosen.token;
  return nlohmann::json(tokenizer.decode({token}, false))
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void print_row(std::string_view name, const std::string& first, const std::string& second) {
  std::cout << fmt::format("{:<22}{:>16}{:>16}\n", name, first, second);
}

void print_counts(const AnswerPair& pair) {
  const auto row = [&](std::string_view name, auto text_of) {
    print_row(name, text_of(pair.first.result), text_of(pair.second.result));
  };
  row("tokens", [](const GenerateResult& r) { return std::to_string(r.samples.size()); });
  row("forwards", [](const GenerateResult& r) { return std::to_string(r.num_forwards); });
  row("tokens a forward",
      [](const GenerateResult& r) { return fmt::format("{:.2f}", r.tokens_per_forward()); });
  row("rows computed", [](const GenerateResult& r) { return std::to_string(r.num_forward_rows); });
  row("tokens/s",
      [](const GenerateResult& r) { return fmt::format("{:.1f}", r.decode_tokens_per_s); });
}

void print_equal_tokens(const AnswerAgreement& agreement) {
  std::cout << fmt::format("equal tokens: {} of {} ({:.1f} %)\n", agreement.num_equal,
                           agreement.num_tokens, 100 * agreement.share());
}

void print_agreement(const AnswerPair& pair, const Tokenizer& tokenizer) {
  print_equal_tokens(*pair.agreement);
  if (const auto token = pair.agreement->first_token) {
    std::cout << fmt::format("first token that differs: after {}, {} vs {}\n", *token,
                             token_text(tokenizer, pair.first.result, *token),
                             token_text(tokenizer, pair.second.result, *token));
  }
  if (const auto step = pair.agreement->first_step) {
    std::cout << fmt::format("first step that differs: after {}\n", *step);
  }
}

double speedup(const AnswerPair& pair) {
  return per(pair.first.result.decode_tokens_per_s, pair.second.result.decode_tokens_per_s);
}

nlohmann::json counts_json(const AnswerAgreement& agreement) {
  return {{"tokens", agreement.num_tokens},
          {"equal", agreement.num_equal},
          {"share", agreement.share()}};
}

nlohmann::json agreement_json(const AnswerAgreement& agreement) {
  const auto index = [](const std::optional<std::int64_t>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json();
  };
  nlohmann::json object = counts_json(agreement);
  object["first_token"] = index(agreement.first_token);
  object["first_step"] = index(agreement.first_step);
  return object;
}

void print_line(const nlohmann::json& object) {
  std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace

void print_text(const AnswerPair& pair, const std::string& name, const Tokenizer& tokenizer,
                int columns) {
  const ComparedAnswer& a = pair.first;
  const ComparedAnswer& b = pair.second;
  if (!name.empty()) std::cout << "\n";
  print_row(name, a.title, b.title);
  if (!a.cache.empty()) print_row("cache", a.cache, b.cache);
  print_counts(pair);
  if (speedup(pair) > 0) {
    std::cout << fmt::format("{} is {:.2f} times as fast\n", a.title, speedup(pair));
  }
  if (pair.agreement) print_agreement(pair, tokenizer);
  std::cout << "\n" << side_by_side(a.title, a.result.text, b.title, b.result.text, columns);
  std::cout << std::flush;
}

void print_json(const AnswerPair& pair, const std::string& name) {
  nlohmann::json object{{"speedup", speedup(pair)}};
  if (!name.empty()) object["id"] = name;
  for (const ComparedAnswer* answer : {&pair.first, &pair.second}) {
    object[answer->key] = to_json(answer->result);
    if (!answer->cache.empty()) object[answer->key]["cache"] = answer->cache;
  }
  if (pair.agreement) object["agreement"] = agreement_json(*pair.agreement);
  print_line(object);
}

void ComparisonTotal::add(const ComparedAnswer& answer, Side& side) {
  side.title = answer.title;
  side.key = answer.key;
  side.num_tokens += std::ssize(answer.result.samples);
  side.num_forwards += answer.result.num_forwards;
  side.num_rows += answer.result.num_forward_rows;
  side.seconds += answer.seconds;
}

void ComparisonTotal::add(const AnswerPair& pair) {
  add(pair.first, first_);
  add(pair.second, second_);
  ++num_prompts_;
  if (!pair.agreement) return;
  if (!agreement_) agreement_.emplace();
  agreement_->num_tokens += pair.agreement->num_tokens;
  agreement_->num_equal += pair.agreement->num_equal;
  num_same_ += pair.agreement->first_token ? 0 : 1;
}

void ComparisonTotal::print_text() const {
  const auto row = [&](std::string_view name, auto text_of) {
    print_row(name, text_of(first_), text_of(second_));
  };
  std::cout << "\n";
  print_row(fmt::format("{} prompts", num_prompts_), first_.title, second_.title);
  row("tokens", [](const Side& side) { return std::to_string(side.num_tokens); });
  row("forwards", [](const Side& side) { return std::to_string(side.num_forwards); });
  row("tokens a forward", [](const Side& side) {
    return fmt::format("{:.2f}", per(static_cast<double>(side.num_tokens),
                                     static_cast<double>(side.num_forwards)));
  });
  row("rows computed", [](const Side& side) { return std::to_string(side.num_rows); });
  row("seconds", [](const Side& side) { return fmt::format("{:.2f}", side.seconds); });
  if (!agreement_) return;
  print_equal_tokens(*agreement_);
  std::cout << fmt::format("equal answers: {} of {}\n", num_same_, num_prompts_) << std::flush;
}

void ComparisonTotal::print_json() const {
  nlohmann::json total{{"prompts", num_prompts_}};
  if (num_prompts_ == 0) return print_line({{"total", total}});
  for (const Side* side : {&first_, &second_}) {
    total[side->key] = {{"completion_tokens", side->num_tokens},
                        {"forwards", side->num_forwards},
                        {"tokens_per_forward", per(static_cast<double>(side->num_tokens),
                                                   static_cast<double>(side->num_forwards))},
                        {"rows_computed", side->num_rows},
                        {"seconds", side->seconds}};
  }
  if (agreement_) {
    total["agreement"] = counts_json(*agreement_);
    total["agreement"]["equal_answers"] = num_same_;
  }
  print_line({{"total", total}});
}

}  // namespace perpend
