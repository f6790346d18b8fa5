#pragma once

#include "perpend/train/noising.h"
#include "perpend/train/sequence_transform.h"

namespace perpend {

// Makes of a text the rows that train a diffusion language model on it: noised copies, in which
// tokens that are learnt (their weight is not 0) are replaced by the mask token at random, and a
// clean one that their blocks follow; the copies share positions and bring the mask of the whole.
//
// In each block, or in the sequence, a level t is uniform in [0, 1) and each token is masked with
// probability p = (1 - 1e-3) t + 1e-3. A second view masks what the first left. The noise is a
// function of the seed and of the number of the example among those the run reads.
//
// Counts are such that the masked-token loss is a mean over learnt tokens (Fast-dLLM v2, section
// 2.4; NBDiff, section 2.2; LLaDA's with inverse_weight and without shift), whether few or many
// were masked, and one of the next token on the clean copy over as many. Where blocks of one token
// leave the noised copies nothing to predict, the clean copy stands alone.
class NoisedCopies final : public SequenceTransform {
 public:
  // Throws InvalidArgument for options that do not fit together.
  explicit NoisedCopies(const NoisingOptions& options);

  // Throws InvalidArgument for an example with targets, positions, labels or lists of its own, and
  // for one that is to learn the mask token.
  TrainingSequence apply(TrainingSequence sequence, const Place& place) const override;

 private:
  NoisingOptions options_;
};

}  // namespace perpend
