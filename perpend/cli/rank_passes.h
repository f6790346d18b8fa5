#pragma once

#include <cstdint>
#include <optional>

#include "perpend/models/pass_runner.h"
#include "perpend/rank/rank_layout.h"

namespace perpend {

// All blocks of `prompt` one after another under a causal mask, with ordinary positions.
RankLayout causal_layout(const RankPrompt& prompt);

// What a ranking by decoding runs: a prompt through all layers, the keys and values of which are
// kept, and then some tokens of an answer, greedily. A token sees what the last row of the layout
// sees, and the tokens before it.
class AnswerPass {
 public:
  // Borrows both. `layout` is one in which all blocks run; its last block ends it.
  AnswerPass(const LanguageModel& network, Context& context, RankLayout layout,
             std::int64_t num_decoded, DType kv_dtype);

  struct Times {
    double prefill_ms = 0;
    double decode_ms = 0;  // of all decoded tokens

    double total_ms() const { return prefill_ms + decode_ms; }
  };
  // Anew from the first token on. The first call captures the graph of decoding.
  Times run();

  std::int64_t kv_bytes() const { return store_.peak_bytes(); }

 private:
  KvRows append(std::int64_t count);
  std::int32_t prefill();
  std::int32_t decode(std::int32_t token, std::int64_t index);

  RankLayout layout_;
  std::vector<Mask> masks_;
  std::int64_t num_decoded_;
  KvStore store_;
  std::optional<KvSequence> sequence_;
  PassRunner runner_;
};

}  // namespace perpend
