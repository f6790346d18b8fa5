#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "perpend/cache/retained_policy.h"
#include "perpend/decode/completion.h"
#include "perpend/decode/request_plan.h"
#include "perpend/decode/sequence_steps.h"

namespace perpend {

using RequestId = std::uint64_t;

// Hears of a request as it runs; all may be empty. Either on_done or on_error ends it; these two
// must not throw.
struct RequestCallbacks {
  GenerateCallbacks progress = {};
  std::function<void(GenerateResult result)> on_done = {};
  std::function<void(const std::exception& error)> on_error = {};
};

// One request of an engine: what it wants to run next and what it made of that. While it runs its
// keys lie in the engine's store; put back it begins anew, with the same tokens, of which those
// that were handed out are not handed out again.
class EngineRequest {
 public:
  struct Work {
    std::vector<std::int32_t> prompt;
    GenerateOptions options;
    RequestCallbacks callbacks;
  };

  // Throws as RequestPlan, and for what the denoiser does not take.
  EngineRequest(RequestId id, const LoadedModel& model, int page_size, Work work);

  RequestId id() const { return id_; }
  // Pages that it needs at most, to get as far as it has come (its prompt at first), and has.
  std::int64_t max_pages() const { return max_pages_; }
  std::int64_t pages_to_start() const;
  std::int64_t held_pages() const;

  void start(KvStore& store);
  void put_back();

  // The step that it wants to run, the same one until finish_step().
  const Step& step();
  // Room for the rows and keys of step(); whether there was any.
  bool place();
  const KvRows& rows() const { return *rows_; }
  std::span<const Mask> masks() const { return run_->steps.masks_of(*step_); }
  // The network for its passes alone; null: that of the model, which it may share with others.
  const LanguageModel* own_network() const {
    return run_->elastic_model ? &*run_->elastic_model : nullptr;
  }

  bool takes_summaries(const Context& context) const {
    return perpend::takes_summaries(*denoiser_, context);
  }
  // Of the wanted rows of step() those from `first` on. What they throw is kept for error().
  void take(std::int64_t first, const torch::Tensor& logits, const Context& context);
  void take(std::int64_t first, std::span<const VocabularySummary> rows);
  // After all of them: false when the answer has ended, or failed.
  bool finish_step();

  // Ends it with what it has so far.
  void cancel() { completion_.cancel(); }
  void fail(std::exception_ptr error) { error_ = std::move(error); }
  // Calls on_done or on_error. It holds no keys any more then.
  void end();

 private:
  // What lives while it runs.
  struct Run {
    Run(KvStore& store, const RequestPlan& plan, std::span<const Mask> masks,
        const ModelConfig& config);

    KvSequence sequence;
    RetainedPolicy policy;
    ElasticState elastic_state;
    std::optional<ElasticModel> elastic_model;
    SequenceSteps steps;
  };

  std::int64_t pages_of(std::int64_t num_tokens) const;
  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(work_.prompt.size()); }
  Step next_step();
  bool take_block(std::span<const Sample> block);
  GenerateResult result();
  template <class Body>
  bool attempt(Body body);

  RequestId id_;
  const LoadedModel& model_;
  int page_size_;
  Work work_;
  RequestPlan plan_;
  std::vector<Mask> masks_;
  std::int64_t max_pages_;
  Completion completion_;
  std::unique_ptr<Denoiser> denoiser_;
  std::optional<Run> run_;
  std::optional<Step> step_;
  std::optional<KvRows> rows_;
  bool is_chunk_ = false;      // whether the step is one of the prompt alone
  bool is_prefilled_ = false;  // whether the prompt needs no such step any more
  bool is_open_ = false;       // whether a block is
  // Samples that were handed out before it was put back and have not come again yet.
  std::size_t num_handed_ = 0;
  std::exception_ptr error_;
};

}  // namespace perpend
