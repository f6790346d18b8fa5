#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "perpend/decode/generate_options.h"
#include "perpend/decode/generate_result.h"
#include "perpend/decode/stop_matcher.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"
#include "perpend/models/loaded_model.h"

namespace perpend {

// One answer in the making: takes tokens, hands out text, knows when it has ended.
class Completion {
 public:
  // Borrows model and callbacks. `room`: tokens that the context has left.
  Completion(const LoadedModel& model, const GenerateOptions& options,
             const GenerateCallbacks& callbacks, std::int64_t room);

  // False when the answer has ended, perhaps with one of these tokens, which came together.
  bool push(std::span<const Sample> block);
  void cancel() { end(FinishReason::kCancelled); }
  // Hands out the text that was held back, and measures.
  void finish();

  GenerateResult result;

 private:
  using Clock = std::chrono::steady_clock;

  static double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
  bool push(const Sample& sample);
  bool emit(const std::string& text);
  bool end(FinishReason reason);  // false

  const LoadedModel& model_;
  const GenerateCallbacks& callbacks_;
  std::int64_t max_tokens_;
  StreamingDetokenizer detokenizer_;
  StopMatcher stop_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point first_token_;
  double decode_seconds_ = 0;
  std::size_t num_first_ = 0;  // tokens that came with the first
};

}  // namespace perpend
