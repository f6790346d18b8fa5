#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "perpend/decode/engine_request.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

struct EngineOptions {
  DType kv_dtype = DType::kF16;   // of keys and values in the cache
  std::int64_t max_running = 32;  // requests that run at a time
  // Rows that go together in one pass; a step of more rows runs alone. Steps are never cut, so that
  // this changes no answer.
  std::int64_t max_rows = 1024;
  // Tokens whose keys are held at a time, of all requests together; 0: max_running times the
  // context of the model. Requests whose keys find no room wait, the latest first.
  std::int64_t max_tokens = 0;
};

// Runs many requests side by side, each with its own sampler, masks, cache rule and seed:
// autoregressive ones, diffusion and chunks of prompts in one forward pass a turn. An answer is
// the one that TextGenerator gives to its request alone: what a sequence runs, in which steps and
// over which keys, depends on itself, and the CPU's own products, attention and norms of a row do
// not depend on the rows beside it. (Where weights are tensors of LibTorch, as on a GPU, its
// products may take another kernel for another number of rows, so that last bits differ.)
//
// First come, first served: a turn takes the steps of the requests in the order in which they were
// submitted, as far as they fit in a pass. Where pages run out, the latest request that runs is put
// back, its pages go to the others, and it begins anew when there is room; it comes to the same
// tokens, and hands out each of them once. (Steps of diffusion and chunks of its prompt are heard
// of again.)
//
// submit() and cancel() may be called from any thread and from callbacks; step() and run() by one
// thread at a time, which calls the callbacks.
class Engine {
 public:
  // Borrows both. Throws InvalidArgument for options that are not positive, and what KvStore
  // throws.
  Engine(const LoadedModel& model, Context& context, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws, as TextGenerator::generate() does, for a prompt or options that can not be run, and
  // InvalidArgument for a request that may need more keys than max_tokens. Errors that come later
  // go to on_error and end that request alone.
  RequestId submit(std::vector<std::int32_t> prompt, GenerateOptions options,
                   RequestCallbacks callbacks);
  // Ends a request in the next turn, with what it has (FinishReason::kCancelled); nothing happens
  // where it has ended.
  void cancel(RequestId id);

  // One turn: a pass over the next steps of what runs. Whether anything is left to do.
  bool step();
  // Turns until nothing is left.
  void run();

  // Requests that have not ended.
  std::size_t num_requests() const;
  std::int64_t num_running() const { return std::ssize(running_); }
  std::int64_t num_passes() const { return num_passes_; }
  std::int64_t num_put_back() const { return num_put_back_; }
  // Of the pages that are held, and of the most that ever were.
  std::int64_t kv_bytes() const { return store_.used_bytes(); }
  std::int64_t kv_peak_bytes() const { return store_.peak_bytes(); }

 private:
  using Requests = std::deque<std::unique_ptr<EngineRequest>>;
  using Members = std::vector<EngineRequest*>;

  // What was submitted and cancelled since the last turn.
  void take_in();
  void cancel_now(RequestId id);
  void admit();
  bool has_room_for_next() const;
  // The requests whose steps run in this turn, with room made for their keys.
  Members gather();
  // Room for the step of a request that runs, if need be that of later ones; false where it was put
  // back itself.
  bool make_room(std::size_t index);
  void put_back_latest();
  void run_pass(std::span<EngineRequest* const> members, PassRunner& runner);
  // Takes those out of what runs that have ended in this turn.
  void finish(const Members& members);
  void end(const Requests& ended);

  const LoadedModel& model_;
  Context& context_;
  EngineOptions options_;
  KvStore store_;
  PassRunner runner_;
  Requests running_;  // in the order in which they were submitted
  Requests waiting_;  // the same, all of them later
  std::int64_t num_passes_ = 0;
  std::int64_t num_put_back_ = 0;

  mutable std::mutex mutex_;  // over what follows
  Requests inbox_;
  std::vector<RequestId> cancelled_;
  RequestId next_id_ = 1;
  std::size_t num_requests_ = 0;
};

}  // namespace perpend
