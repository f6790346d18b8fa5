#include "perpend/decode/engine.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/core/range.h"
#include "perpend/decode/engine_pass.h"
#include "perpend/models/kv_store_config.h"

namespace perpend {
namespace {

void check_positive(std::string_view name, std::int64_t value) {
  check(value > 0, concat("engine: ", name, " must be positive (", value, ")"));
}

KvStoreConfig store_config(const LoadedModel& model, Device device, const EngineOptions& options) {
  check_positive("requests at a time", options.max_running);
  check_positive("rows of a pass", options.max_rows);
  check(options.max_tokens >= 0,
        concat("engine: tokens in the cache must not be negative (", options.max_tokens, ")"));
  const ModelConfig& config = model.config();
  const std::int64_t max_tokens =
      options.max_tokens > 0 ? options.max_tokens : options.max_running * config.context_length;
  KvStoreConfig store = kv_store_config(config, options.kv_dtype, max_tokens, device);
  store.max_pages = ceil_div(max_tokens, store.page_size) * config.num_layers;
  return store;
}

}  // namespace

Engine::Engine(const LoadedModel& model, Context& context, const EngineOptions& options)
    : model_(model),
      context_(context),
      options_(options),
      store_(store_config(model, context.device, options)),
      runner_(model.network(), context) {}

Engine::~Engine() = default;

RequestId Engine::submit(std::vector<std::int32_t> prompt, GenerateOptions options,
                         RequestCallbacks callbacks) {
  RequestId id = 0;
  {
    const std::scoped_lock lock(mutex_);
    id = next_id_++;
  }
  auto request = std::make_unique<EngineRequest>(
      id, model_, store_.config().page_size,
      EngineRequest::Work{std::move(prompt), std::move(options), std::move(callbacks)});
  const std::int64_t pages = request->max_pages();
  const std::int64_t pages_of_a_row = model_.config().num_layers;
  check(pages <= store_.pool().capacity(),
        concat("engine: a request may need the keys of ",
               pages / pages_of_a_row * store_.config().page_size, " tokens, the cache holds ",
               store_.config().max_tokens));
  const std::scoped_lock lock(mutex_);
  inbox_.push_back(std::move(request));
  ++num_requests_;
  return id;
}

void Engine::cancel(RequestId id) {
  const std::scoped_lock lock(mutex_);
  cancelled_.push_back(id);
}

std::size_t Engine::num_requests() const {
  const std::scoped_lock lock(mutex_);
  return num_requests_;
}

void Engine::run() {
  while (step()) {
  }
}

bool Engine::step() {
  take_in();
  admit();
  const Members members = gather();
  Members shared;
  for (EngineRequest* member : members) {
    const LanguageModel* network = member->own_network();
    if (network == nullptr) {
      shared.push_back(member);
    } else {
      PassRunner runner(*network, context_);
      run_pass({&member, 1}, runner);
    }
  }
  if (!shared.empty()) run_pass(shared, runner_);
  finish(members);
  return num_requests() > 0;
}

void Engine::take_in() {
  std::vector<RequestId> cancelled;
  {
    const std::scoped_lock lock(mutex_);
    std::ranges::move(inbox_, std::back_inserter(waiting_));
    inbox_.clear();
    cancelled.swap(cancelled_);
  }
  for (const RequestId id : cancelled) cancel_now(id);
}

void Engine::cancel_now(RequestId id) {
  for (Requests* requests : {&running_, &waiting_}) {
    const auto found = std::ranges::find(*requests, id, &EngineRequest::id);
    if (found == requests->end()) continue;
    Requests ended;
    ended.push_back(std::move(*found));
    requests->erase(found);
    ended.front()->cancel();
    return end(ended);
  }
}

// Pages that a request needs to get started, or again as far as it was, count as taken.
bool Engine::has_room_for_next() const {
  std::int64_t pages = waiting_.front()->pages_to_start();
  for (const auto& request : running_) {
    pages += std::max(request->held_pages(), request->pages_to_start());
  }
  return pages <= store_.pool().capacity();
}

void Engine::admit() {
  while (!waiting_.empty() && num_running() < options_.max_running &&
         (running_.empty() || has_room_for_next())) {
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    running_.back()->start(store_);
  }
}

Engine::Members Engine::gather() {
  Members members;
  std::int64_t num_rows = 0;
  for (std::size_t i = 0; i < running_.size(); ++i) {
    EngineRequest& request = *running_[i];
    const std::int64_t rows = std::ssize(request.step().tokens);
    if (!members.empty() && num_rows + rows > options_.max_rows) continue;
    if (!make_room(i)) break;
    members.push_back(&request);
    num_rows += rows;
  }
  return members;
}

bool Engine::make_room(std::size_t index) {
  EngineRequest& request = *running_[index];
  while (!request.place()) {
    if (running_.size() == 1) bug("engine: a request alone has too few pages");
    const bool itself = index + 1 == running_.size();
    put_back_latest();
    if (itself) return false;
  }
  return true;
}

void Engine::put_back_latest() {
  running_.back()->put_back();
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
  ++num_put_back_;
}

void Engine::run_pass(std::span<EngineRequest* const> members, PassRunner& runner) {
  ++num_passes_;
  try {
    EnginePass(members, context_).run(runner);
  } catch (const std::exception&) {
    // Half of their keys may be written.
    for (EngineRequest* member : members) member->fail(std::current_exception());
  }
}

void Engine::finish(const Members& members) {
  Requests ended;
  for (EngineRequest* member : members) {
    if (member->finish_step()) continue;
    const auto place = std::ranges::find(running_, member, &std::unique_ptr<EngineRequest>::get);
    ended.push_back(std::move(*place));
    running_.erase(place);
  }
  end(ended);
}

void Engine::end(const Requests& ended) {
  {
    const std::scoped_lock lock(mutex_);
    num_requests_ -= ended.size();
  }
  for (const auto& request : ended) request->end();
}

}  // namespace perpend
