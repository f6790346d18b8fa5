#pragma once

#include "perpend/train/token_loss.h"

namespace perpend {

// Of the noised copies that NoisedCopies makes: what stood where they have the mask token.
class MaskedTokenLoss final : public TokenLoss {
 public:
  MaskedTokenLoss() : TokenLoss("masked_token", TokenRows::kNoised) {}
};

}  // namespace perpend
