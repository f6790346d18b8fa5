#include "perpend/cli/batch_generation.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <set>
#include <utility>

#include <fmt/core.h>

#include "perpend/cli/interrupt_scope.h"
#include "perpend/cli/progress_bar.h"
#include "perpend/cli/report.h"
#include "perpend/core/range.h"
#include "perpend/decode/engine.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/json_text.h"

namespace perpend {
namespace {

constexpr int kInterrupted = 130;  // as a shell has it: 128 and the number of the signal

// A request and where it stands.
struct PlacedLine {
  BatchLine line;
  std::string where;
};

class BatchRun {
 public:
  BatchRun(const ModelSession& session, Context& context, const BatchFlags& options,
           const BatchDefaults& defaults)
      : model_(session.model),
        context_(context),
        kv_dtype_(session.kv_dtype),
        options_(options),
        defaults_(defaults) {}

  int run();

 private:
  void read_line(std::string_view line, std::size_t number, const std::string& where);
  void report(const std::string& where, const std::exception& error);
  std::int64_t kv_tokens() const;
  void submit(Engine& engine, PlacedLine& placed);
  void write(const PlacedLine& placed, const GenerateResult& result);
  void sum_up(const Engine& engine, double seconds) const;

  const LoadedModel& model_;
  Context& context_;
  DType kv_dtype_;
  const BatchFlags& options_;
  const BatchDefaults& defaults_;
  std::vector<PlacedLine> lines_;
  std::set<std::string> ids_;  // as JSON
  std::optional<ProgressBar> progress_;
  int status_ = 0;
  std::int64_t num_lines_ = 0;  // those that are wrong too
  std::int64_t num_answers_ = 0;
  std::int64_t prompt_tokens_ = 0;
  std::int64_t new_tokens_ = 0;
};

void BatchRun::read_line(std::string_view line, std::size_t number, const std::string& where) {
  BatchLine request = read_batch_line(line, number, where, model_, defaults_);
  // What is wrong with it shows before the first pass.
  const RequestPlan plan(model_, request.prompt, request.options);
  check(ids_.insert(request.id.dump(-1, ' ', true)).second, "the id was given before");
  lines_.push_back({std::move(request), where});
}

void BatchRun::report(const std::string& where, const std::exception& error) {
  if (progress_) progress_->finish();
  report_at(where, error);
  status_ = 2;
}

// Enough for the longest requests together, in whole pages.
std::int64_t BatchRun::kv_tokens() const {
  if (options_.kv_tokens != 0) return options_.kv_tokens;
  const int page_size = KvStoreConfig().page_size;
  std::vector<std::int64_t> tokens;
  for (const PlacedLine& placed : lines_) {
    const RequestPlan plan(model_, placed.line.prompt, placed.line.options);
    tokens.push_back(round_up(plan.max_length(), page_size));
  }
  std::ranges::sort(tokens, std::greater<>());
  std::int64_t total = 0;
  for (std::size_t i = 0; i < tokens.size() && std::cmp_less(i, options_.batch_size); ++i) {
    total += tokens[i];
  }
  return total;
}

void BatchRun::submit(Engine& engine, PlacedLine& placed) {
  RequestCallbacks callbacks;
  callbacks.on_done = [this, &placed](const GenerateResult& result) { write(placed, result); };
  callbacks.on_error = [this, &placed](const std::exception& error) {
    report(placed.where, error);
  };
  try {
    engine.submit(placed.line.prompt, placed.line.options, std::move(callbacks));
  } catch (const Error& error) {
    report(placed.where, error);
  }
}

void BatchRun::write(const PlacedLine& placed, const GenerateResult& result) {
  ++num_answers_;
  prompt_tokens_ += result.prompt_tokens;
  new_tokens_ += std::ssize(result.samples);
  nlohmann::ordered_json object{{"id", placed.line.id}};
  const nlohmann::json fields = to_json(result);
  for (const auto& [key, value] : fields.items()) object[key] = value;
  object["seed"] = placed.line.options.sampler.seed;
  if (options_.ids) {
    object["prompt_ids"] = placed.line.prompt;
    object["answer_ids"] = nlohmann::ordered_json::array();
    for (const Sample& sample : result.samples) object["answer_ids"].push_back(sample.chosen.token);
  }
  if (placed.line.options.num_top_logprobs > 0) {
    object["logprobs"] = logprobs_of(result, model_.tokenizer());
  }
  if (progress_) progress_->finish();
  std::cout << json_line(object, placed.where) << std::endl;
}

void BatchRun::sum_up(const Engine& engine, double seconds) const {
  const double tokens_per_s = static_cast<double>(new_tokens_) / seconds;
  fmt::print(stderr,
             "[{} of {} answers, {} prompt tokens, {} new in {:.1f} s: {:.0f} tokens/s, {} "
             "passes{}, KV peak {}]\n",
             num_answers_, num_lines_, prompt_tokens_, new_tokens_, seconds, tokens_per_s,
             engine.num_passes(),
             engine.num_put_back() > 0 ? fmt::format(", {} put back", engine.num_put_back()) : "",
             bytes_text(engine.kv_peak_bytes()));
  if (options_.summary.empty()) return;
  const nlohmann::json summary{{"requests", num_lines_},
                               {"answers", num_answers_},
                               {"prompt_tokens", prompt_tokens_},
                               {"completion_tokens", new_tokens_},
                               {"forwards", engine.num_passes()},
                               {"put_back", engine.num_put_back()},
                               {"seconds", seconds},
                               {"tokens_per_s", tokens_per_s},
                               {"kv_peak_bytes", engine.kv_peak_bytes()}};
  AtomicFile file(options_.summary);
  file.write(json_document(summary, options_.summary));
  file.commit();
}

int BatchRun::run() {
  const bool all_good =
      for_batch_lines(options_.file, [this](auto line, std::size_t number, const auto& where) {
        ++num_lines_;
        read_line(line, number, where);
      });
  if (!all_good) status_ = 2;
  if (lines_.empty()) return status_;
  const auto start = std::chrono::steady_clock::now();
  Engine engine(
      model_, context_,
      {.kv_dtype = kv_dtype_, .max_running = options_.batch_size, .max_tokens = kv_tokens()});
  const InterruptScope scope;
  progress_.emplace("requests", std::ssize(lines_));
  std::size_t next = 0;
  // As many as keep the engine busy: each takes some memory of its own.
  const auto submit_some = [&] {
    while (next < lines_.size() && std::cmp_less(engine.num_requests(), 2 * options_.batch_size)) {
      submit(engine, lines_[next++]);
    }
    return engine.num_requests() > 0;
  };
  while (!InterruptScope::interrupted() && submit_some()) {
    engine.step();
    progress_->update(num_answers_, fmt::format("{} tokens", new_tokens_));
    if (!std::cout.good()) throw IoError("generate: answers can not be written");
  }
  progress_->finish();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  sum_up(engine, seconds.count());
  return InterruptScope::interrupted() ? kInterrupted : status_;
}

}  // namespace

int generate_batch(const ModelSession& session, Context& context, const BatchFlags& options,
                   const BatchDefaults& defaults) {
  return BatchRun(session, context, options, defaults).run();
}

}  // namespace perpend
