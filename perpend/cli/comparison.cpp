#include "perpend/cli/comparison.h"

#include <algorithm>
#include <iostream>
#include <optional>
#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "perpend/cli/denoising_view.h"
#include "perpend/cli/options.h"
#include "perpend/cli/report.h"
#include "perpend/core/error.h"
#include "perpend/decode/answer_agreement.h"
#include "perpend/io/text_layout.h"

namespace perpend {

void ComparisonFlags::add_to(CLI::App& app) {
  add_option(app, "--compare", reference,
             "Answer twice, as the flags say and as reference: exact (no key is older than the "
             "canvas) or sequential (exact, and one token a step)");
  add_flag(app, "--compare-ar", autoregressive,
           "Answer twice, by blocks and token by token with the same weights");
  add_option(app, "--ar-model", ar_model, "Of --compare-ar: another model for token by token");
  add_option(app, "--ar-adapter", ar_adapter, "Of --ar-model: its LoRA adapter");
}

void ComparisonFlags::check_flags() const {
  check(!autoregressive || reference.empty(), "--compare and --compare-ar exclude each other");
  check(reference.empty() || reference == "exact" || reference == "sequential",
        concat("--compare: expected exact or sequential (", reference, ")"));
  check(ar_model.empty() || autoregressive, "--ar-model needs --compare-ar");
  check(ar_adapter.empty() || !ar_model.empty(), "--ar-adapter needs --ar-model");
}

// One of two ways to answer.
struct Comparison::Way {
  std::string title;
  std::string key;  // in JSON
  ModelSession* session;
  GenerateOptions options;
};

struct Comparison::Answer {
  GenerateResult result;
  std::vector<RecordedStep> steps;
};

namespace {

GenerateOptions reference_options(const DiffusionConfig& model, GenerateOptions options,
                                  bool one_token_a_step) {
  options.diffusion = exact_options(model, options.diffusion);
  if (one_token_a_step) {
    options.diffusion.rule.kind = UnmaskRule::Kind::kCount;
    options.diffusion.rule.tokens_per_step = 1;
  }
  return options;
}

GenerateOptions token_by_token(const LoadedModel& model, GenerateOptions options) {
  options.diffusion = {};
  options.layer_masks = {};
  if (!model.diffusion()) return options;
  check(model.diffusion()->attention != DiffusionAttention::kFull,
        "--compare-ar: under full attention no weights are autoregressive; name others with "
        "--ar-model");
  options.diffusion.block_size = 1;
  return options;
}

ModelOptions other_model(ModelOptions options, const ComparisonFlags& flags) {
  options.model = flags.ar_model;
  options.adapter = flags.ar_adapter;
  options.layers.clear();
  options.change = {};
  return options;
}

std::string cache_name(const LoadedModel& model, const DiffusionOptions& options) {
  return std::string(name_of(decide(*model.diffusion(), options).cache));
}

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

void print_counts(const GenerateResult& a, const GenerateResult& b) {
  const auto row = [&](std::string_view name, auto text_of) {
    print_row(name, text_of(a), text_of(b));
  };
  row("tokens", [](const GenerateResult& r) { return std::to_string(r.samples.size()); });
  row("forwards", [](const GenerateResult& r) { return std::to_string(r.num_forwards); });
  row("tokens a forward",
      [](const GenerateResult& r) { return fmt::format("{:.2f}", r.tokens_per_forward()); });
  row("rows computed", [](const GenerateResult& r) { return std::to_string(r.num_forward_rows); });
  row("tokens/s",
      [](const GenerateResult& r) { return fmt::format("{:.1f}", r.decode_tokens_per_s); });
}

void print_agreement(const AnswerAgreement& agreement, const Tokenizer& tokenizer,
                     const GenerateResult& a, const GenerateResult& b) {
  std::cout << fmt::format("equal tokens: {} of {} ({:.1f} %)\n", agreement.num_equal,
                           agreement.num_tokens, 100 * agreement.share());
  if (const auto token = agreement.first_token) {
    std::cout << fmt::format("first token that differs: after {}, {} vs {}\n", *token,
                             token_text(tokenizer, a, *token), token_text(tokenizer, b, *token));
  }
  if (const auto step = agreement.first_step) {
    std::cout << fmt::format("first step that differs: after {}\n", *step);
  }
}

nlohmann::json to_json(const AnswerAgreement& agreement) {
  const auto index = [](const std::optional<std::int64_t>& value) {
    return value ? nlohmann::json(*value) : nlohmann::json();
  };
  return {{"tokens", agreement.num_tokens},
          {"equal", agreement.num_equal},
          {"share", agreement.share()},
          {"first_token", index(agreement.first_token)},
          {"first_step", index(agreement.first_step)}};
}

}  // namespace

Comparison::Comparison(const ComparisonFlags& flags, const ModelOptions& loaded,
                       ModelSession& session, const GenerateOptions& options)
    : compares_tokens_(!flags.autoregressive) {
  const auto& model = session.model.diffusion();
  check(model.has_value(), "--compare and --compare-ar are for models of diffusion alone");
  if (compares_tokens_) {
    const bool sequential = flags.reference == "sequential";
    ways_.push_back({"this run", "compared", &session, options});
    ways_.push_back(
        {flags.reference, "reference", &session, reference_options(*model, options, sequential)});
    return;
  }
  ModelSession* other = &session;
  if (!flags.ar_model.empty()) {
    ar_session_ = std::make_unique<ModelSession>(other_model(loaded, flags));
    other = ar_session_.get();
  }
  ways_.push_back({"diffusion", "diffusion", &session, options});
  ways_.push_back(
      {"autoregressive", "autoregressive", other, token_by_token(other->model, options)});
}

Comparison::~Comparison() = default;

Comparison::Answer Comparison::answer(const Way& way, const Encode& encode) const {
  Answer answer;
  GenerateOptions options = way.options;
  if (compares_tokens_) {
    options.diffusion.on_step = [&](const CanvasStep& step) { answer.steps.emplace_back(step); };
  }
  ModelSession& session = *way.session;
  TextGenerator generator(session.model, session.runtime.context(), session.kv_dtype);
  answer.result = generator.generate(encode(session.model), options);
  return answer;
}

void Comparison::run(const Encode& encode, bool json) {
  const Answer a = answer(ways_[0], encode);
  const Answer b = answer(ways_[1], encode);
  const AnswerAgreement agreement =
      agreement_of(a.result.samples, a.steps, b.result.samples, b.steps);
  const double speedup = b.result.decode_tokens_per_s > 0
                             ? a.result.decode_tokens_per_s / b.result.decode_tokens_per_s
                             : 0;
  const LoadedModel& model = ways_[0].session->model;
  if (json) {
    nlohmann::json object{{ways_[0].key, perpend::to_json(a.result)},
                          {ways_[1].key, perpend::to_json(b.result)},
                          {"speedup", speedup}};
    if (compares_tokens_) {
      for (const Way& way : ways_) {
        object[way.key]["cache"] = cache_name(model, way.options.diffusion);
      }
      object["agreement"] = to_json(agreement);
    }
    std::cout << object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
    return;
  }
  print_row("", ways_[0].title, ways_[1].title);
  if (compares_tokens_) {
    print_row("cache", cache_name(model, ways_[0].options.diffusion),
              cache_name(model, ways_[1].options.diffusion));
  }
  print_counts(a.result, b.result);
  if (speedup > 0)
    std::cout << fmt::format("{} is {:.2f} times as fast\n", ways_[0].title, speedup);
  if (compares_tokens_) print_agreement(agreement, model.tokenizer(), a.result, b.result);
  std::cout << "\n";
  const int columns = terminal_size().columns;
  std::cout << side_by_side(ways_[0].title, a.result.text, ways_[1].title, b.result.text,
                            columns > 0 ? columns : 100)
            << std::flush;
}

}  // namespace perpend
