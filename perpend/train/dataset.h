#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "perpend/mask/mask.h"

namespace perpend {

constexpr std::int32_t kNoTarget = -1;

// One training example: a token sequence with what losses and masks need to know of it.
struct TrainingSequence {
  std::vector<std::int32_t> tokens;
  // What each row is to predict, kNoTarget for nothing. Empty: the token after it.
  std::vector<std::int32_t> targets;
  // How much predicting counts: one weight for each of `targets` or, where those are empty, for
  // each token as the target of the row before it. Empty: 1.
  std::vector<float> weights;
  // What each row adds to the number that a loss is divided by, beside `targets`. Empty: its
  // weight.
  std::vector<float> counts;
  std::vector<std::int32_t> positions;  // for the rotary embedding; empty: 0, 1, 2, ...
  // Labels of masks by the name that they have there, one value a token.
  std::map<std::string, std::vector<std::int32_t>> labels;
  // What a loss asks for by name, any number of values.
  std::map<std::string, std::vector<std::int32_t>> lists;
  // Rows at the front that are noised copies of the text, which a masked-token loss reads. The
  // others are clean: rows of the next-token loss.
  std::int64_t num_noised = 0;
  // What its rows see, in place of the layers' masks; all sequences of a batch have one, or none.
  std::optional<Mask> mask;
};

// Examples by number. A run reads them in an order of its own (sequence_order.h), so that its place
// is one number. Safe to use from several threads.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t size() const = 0;
  virtual std::int64_t num_tokens(std::int64_t index) const = 0;
  // The same for the same arguments, always. `epoch` is how many times all examples were read
  // before, for data that is drawn anew each time.
  virtual TrainingSequence get(std::int64_t index, std::int64_t epoch) const = 0;
};

}  // namespace perpend
