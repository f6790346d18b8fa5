#pragma once

#include "perpend/train/token_loss.h"

namespace perpend {

// Of the rows that read clean tokens: all of a batch that nothing was noised in.
class NextTokenLoss final : public TokenLoss {
 public:
  NextTokenLoss() : TokenLoss("next_token", TokenRows::kClean) {}
};

}  // namespace perpend
