#pragma once

#include <span>
#include <vector>

#include "perpend/decode/engine_request.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

// The next steps of some requests as one ragged forward pass. Their wanted rows come in another
// order than the requests: first those of which summaries are enough.
class EnginePass {
 public:
  // All have room for their steps.
  EnginePass(std::span<EngineRequest* const> members, Context& context);

  // Runs it and hands its logits to the requests.
  void run(PassRunner& runner);

 private:
  struct Part {
    EngineRequest* request = nullptr;
    Range wanted;  // its rows among all wanted ones
  };

  // Rows of one request in a chunk of wanted rows.
  struct Piece {
    EngineRequest* request = nullptr;
    std::int64_t first = 0;  // of the request's wanted rows
    std::int64_t begin = 0;  // in the chunk
    std::int64_t count = 0;
  };

  void add_wanted_rows(EngineRequest& request, std::int64_t first_row);
  // Calls take(piece) for each request that has some of the wanted rows of `chunk`, on all threads:
  // requests draw their tokens independently.
  void for_pieces(Range chunk, FunctionRef<void(const Piece&)> take) const;
  ForwardInput input() const;

  Context& context_;
  std::vector<std::int32_t> tokens_;
  std::vector<KvRows> rows_;
  std::vector<std::span<const Mask>> masks_;
  bool masks_differ_ = false;
  std::vector<std::int32_t> logit_rows_;
  std::vector<Part> parts_;
  std::int64_t num_summaries_ = 0;
  std::int32_t banned_token_ = PassRunner::kNoToken;
};

}  // namespace perpend
