#include "perpend/cli/comparison.h"

#include <chrono>
#include <utility>

#include "perpend/cli/denoising_view.h"
#include "perpend/cli/options.h"
#include "perpend/core/error.h"
#include "perpend/decode/answer_agreement.h"

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

GenerateOptions token_by_token(GenerateOptions options, bool by_blocks_of_one) {
  options.layer_masks = {};
  options.diffusion = {};
  if (by_blocks_of_one) options.diffusion.block_size = 1;
  return options;
}

ModelOptions other_model(ModelOptions options, const ComparisonFlags& flags) {
  options.model = flags.ar_model;
  options.adapter = flags.ar_adapter;
  options.layers.clear();
  options.change = {};
  return options;
}

}  // namespace

Comparison::Comparison(const ComparisonFlags& flags, const ModelOptions& loaded,
                       ModelSession& session)
    : compares_tokens_(!flags.autoregressive) {
  const auto& model = session.model.diffusion();
  check(model.has_value(), "--compare and --compare-ar are for models of diffusion alone");
  const auto unchanged = [](GenerateOptions options) { return options; };
  if (compares_tokens_) {
    const bool sequential = flags.reference == "sequential";
    ways_ = {Way{"this run", "compared", &session, unchanged},
             Way{flags.reference, "reference", &session, [model, sequential](auto options) {
                   return reference_options(*model, std::move(options), sequential);
                 }}};
    return;
  }
  ModelSession* other = &session;
  if (!flags.ar_model.empty()) {
    ar_session_ = std::make_unique<ModelSession>(other_model(loaded, flags));
    other = ar_session_.get();
  }
  const auto& ar_model = other->model.diffusion();
  check(!ar_model || ar_model->attention != DiffusionAttention::kFull,
        "--compare-ar: under full attention no weights are autoregressive; name others with "
        "--ar-model");
  ways_ = {Way{"diffusion", "diffusion", &session, unchanged},
           Way{"autoregressive", "autoregressive", other,
               [by_blocks = ar_model.has_value()](auto options) {
                 return token_by_token(std::move(options), by_blocks);
               }}};
}

ComparedAnswer Comparison::answer(const Way& way, const RequestFor& request_for) const {
  ModelSession& session = *way.session;
  const ComparedRequest request = request_for(session.model);
  GenerateOptions options = way.change(request.options);
  ComparedAnswer answer{way.title, way.key, "", {}, {}, 0};
  if (compares_tokens_) {
    answer.cache = name_of(decide(*session.model.diffusion(), options.diffusion).cache);
    options.diffusion.on_step = [&](const CanvasStep& step) { answer.steps.emplace_back(step); };
  }
  TextGenerator generator(session.model, session.runtime.context(), session.kv_dtype);
  const auto start = std::chrono::steady_clock::now();
  answer.result = generator.generate(request.prompt, options);
  answer.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return answer;
}

void Comparison::run(const RequestFor& request, bool json, const std::string& name) {
  AnswerPair pair{answer(ways_[0], request), answer(ways_[1], request), {}};
  if (compares_tokens_) {
    pair.agreement = agreement_of(pair.first.result.samples, pair.first.steps,
                                  pair.second.result.samples, pair.second.steps);
  }
  total_.add(pair);
  if (json) return print_json(pair, name);
  constexpr int kUsualColumns = 100;
  const int columns = terminal_size().columns;
  print_text(pair, name, ways_[0].session->model.tokenizer(),
             columns > 0 ? columns : kUsualColumns);
}

int Comparison::run_batch(const std::string& file, const BatchDefaults& defaults, bool json) {
  const bool all_good = for_batch_lines(
      file, [&](std::string_view line, std::size_t number, const std::string& where) {
        const auto request = [&](const LoadedModel& model) {
          BatchLine read = read_batch_line(line, number, where, model, defaults);
          return ComparedRequest{std::move(read.prompt), std::move(read.options)};
        };
        const auto id = read_batch_line(line, number, where, ways_[0].session->model, defaults).id;
        run(request, json, id.is_string() ? id.get<std::string>() : id.dump());
      });
  if (json) {
    total_.print_json();
  } else if (total_.num_prompts() > 0) {
    total_.print_text();
  }
  return all_good ? 0 : 2;
}

}  // namespace perpend
