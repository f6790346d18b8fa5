#include "perpend/decode/engine_request.h"

#include <algorithm>
#include <utility>

#include "perpend/cache/kv_clear.h"
#include "perpend/core/range.h"

namespace perpend {

EngineRequest::Run::Run(KvStore& store, const RequestPlan& plan, std::span<const Mask> masks,
                        const ModelConfig& config)
    : sequence(store),
      policy({masks.begin(), masks.end()}, config.context_length, config.num_q_heads,
             config.num_kv_heads),
      elastic_model(plan.elastic_model(elastic_state)),
      steps(sequence, policy, masks, config.context_length, plan.chunk()) {}

EngineRequest::EngineRequest(RequestId id, const LoadedModel& model, int page_size, Work work)
    : id_(id),
      model_(model),
      page_size_(page_size),
      work_(std::move(work)),
      plan_(model, work_.prompt, work_.options),
      masks_(plan_.masks()),
      max_pages_(std::min(pages_of(plan_.max_length()),
                          enough_pages(masks_, {.max_len = plan_.max_length(),
                                                .step = plan_.chunk(),
                                                .page_size = page_size,
                                                .num_q_heads = model.config().num_q_heads,
                                                .num_kv_heads = model.config().num_kv_heads}))),
      completion_(model, work_.options, work_.callbacks.progress,
                  model.config().context_length - prompt_tokens()),
      denoiser_(plan_.denoiser()) {}

std::int64_t EngineRequest::pages_of(std::int64_t num_tokens) const {
  return ceil_div(num_tokens, page_size_) * model_.config().num_layers;
}

std::int64_t EngineRequest::pages_to_start() const {
  const auto known = static_cast<std::int64_t>(completion_.result.samples.size());
  const std::int64_t length =
      plan_.keeps_finished() ? prompt_tokens() + known + 1 : plan_.max_length();
  return std::min(pages_of(length), max_pages_);
}

std::int64_t EngineRequest::held_pages() const {
  return run_ ? run_->sequence.held_bytes() / run_->sequence.store().page_bytes() : 0;
}

void EngineRequest::start(KvStore& store) {
  run_.emplace(store, plan_, masks_, model_.config());
  run_->steps.push(work_.prompt);
  is_prefilled_ = !plan_.keeps_finished();
}

void EngineRequest::put_back() {
  rows_.reset();
  step_.reset();
  run_.reset();
  is_open_ = false;
  denoiser_ = plan_.denoiser();
  num_handed_ = completion_.result.samples.size();
}

const Step& EngineRequest::step() {
  if (!step_) step_ = next_step();
  return *step_;
}

Step EngineRequest::next_step() {
  // Only the prompt: what a block leaves pending is run by the next one.
  is_chunk_ = !is_prefilled_ && run_->steps.has_chunk();
  if (is_chunk_) return run_->steps.next_chunk();
  is_prefilled_ = true;
  if (!is_open_) run_->steps.open(*denoiser_);
  is_open_ = true;
  return SequenceSteps::next_step(*denoiser_);
}

bool EngineRequest::place() {
  rows_ = run_->steps.place(step());
  return rows_.has_value();
}

// What a request throws ends that request alone.
template <class Body>
bool EngineRequest::attempt(Body body) {
  if (error_) return false;
  try {
    return body();
  } catch (const std::exception&) {
    error_ = std::current_exception();
    return false;
  }
}

void EngineRequest::take(std::int64_t first, const torch::Tensor& logits, const Context& context) {
  attempt([&] {
    denoiser_->take(first, logits, context);
    return true;
  });
}

void EngineRequest::take(std::int64_t first, std::span<const VocabularySummary> rows) {
  attempt([&] {
    denoiser_->take(first, rows);
    return true;
  });
}

bool EngineRequest::finish_step() {
  step_.reset();
  return attempt([&] {
    if (is_chunk_) {
      run_->steps.finish_chunk();
      const auto& on_prefill = work_.callbacks.progress.on_prefill;
      const bool goes_on = !on_prefill || on_prefill(run_->sequence.length(), prompt_tokens());
      if (!goes_on) cancel();
      return goes_on;
    }
    if (!run_->steps.finish_step(*denoiser_)) return true;
    is_open_ = false;
    return take_block(denoiser_->block());
  });
}

// Blocks end where they ended before it was put back.
bool EngineRequest::take_block(std::span<const Sample> block) {
  if (num_handed_ == 0) return completion_.push(block);
  if (block.size() > num_handed_) bug("engine: a block that was put back came out longer");
  num_handed_ -= block.size();
  return true;
}

void EngineRequest::end() {
  const bool done = attempt([&] {
    completion_.finish();
    return true;
  });
  GenerateResult ended = result();
  // They may hold what is no number.
  if (!done && run_) clear_pages(run_->sequence);
  run_.reset();
  if (done) {
    if (work_.callbacks.on_done) work_.callbacks.on_done(std::move(ended));
    return;
  }
  if (!work_.callbacks.on_error) return;
  try {
    std::rethrow_exception(error_);
  } catch (const std::exception& error) {
    work_.callbacks.on_error(error);
  }
}

GenerateResult EngineRequest::result() {
  GenerateResult result = std::move(completion_.result);
  result.prompt_tokens = prompt_tokens();
  result.prefill_layer_tokens = prompt_tokens() * model_.config().num_layers;
  const ElasticState nothing_ran;
  plan_.count_work(*denoiser_, run_ ? run_->elastic_state : nothing_ran, result);
  if (!run_) return result;
  result.kv_bytes = run_->sequence.held_bytes();
  result.kv_exact_bytes = run_->sequence.exact_bytes();
  result.kv_peak_bytes = result.kv_bytes;
  return result;
}

}  // namespace perpend
