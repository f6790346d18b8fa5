#include "perpend/train/noised_copies.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "perpend/core/demand.h"
#include "perpend/core/random.h"

namespace perpend {
namespace {

using Attention = DiffusionAttention;
using NoiseUnit = NoisingOptions::NoiseUnit;

// Streams of the run's seed, so that noise and the order of the data are drawn apart.
constexpr std::uint64_t kNoiseSeed = 0x6E6F6973;
constexpr double kLeastProbability = 1e-3;  // of being masked

struct Noise {
  std::vector<bool> is_masked;      // [length], in the first view
  std::vector<double> probability;  // [length]
};

// Drawn for all tokens, learnt or not, so that it does not depend on which are.
Noise draw_noise(std::int64_t length, std::int64_t unit, Random random) {
  Noise noise;
  double probability = 0;
  for (std::int64_t i = 0; i < length; ++i) {
    if (i % unit == 0) {
      probability = (1 - kLeastProbability) * random.next_double() + kLeastProbability;
    }
    noise.probability.push_back(probability);
    noise.is_masked.push_back(random.next_double() < probability);
  }
  return noise;
}

// Rows of all copies of one text.
class CopyWriter {
 public:
  CopyWriter(const NoisingOptions& options, const TrainingSequence& text, std::int64_t block_size)
      : options_(options), text_(text), length_(text.tokens.size()), block_size_(block_size) {}

  void add_noised(const Noise& noise, int view) {
    const std::size_t first = begin_copy();
    out_.num_noised += static_cast<std::int64_t>(length_);
    for (std::size_t i = 0; i < length_; ++i) {
      const bool is_masked = text_.weights[i] > 0 && noise.is_masked[i] == (view == 0);
      if (is_masked) out_.tokens[first + i] = options_.mask_token_id;
      const float weight = is_masked && is_predicted(i) ? weight_of(i, noise) : 0.0F;
      set_target(first, i, options_.shift, weight,
                 text_.weights[i] / static_cast<float>(options_.views));
    }
  }

  void add_clean() {
    const std::size_t first = begin_copy();
    if (!options_.clean_targets) return;
    for (std::size_t i = 0; i < length_; ++i) {
      set_target(first, i, /*shift=*/true, text_.weights[i], text_.weights[i]);
    }
  }

  TrainingSequence take(Mask mask) {
    out_.mask = std::move(mask);
    return std::move(out_);
  }

 private:
  // Returns its first row.
  std::size_t begin_copy() {
    const std::size_t first = out_.tokens.size();
    out_.tokens.insert(out_.tokens.end(), text_.tokens.begin(), text_.tokens.end());
    out_.positions.resize(first + length_);
    std::iota(out_.positions.begin() + static_cast<std::ptrdiff_t>(first), out_.positions.end(), 0);
    out_.targets.resize(first + length_, kNoTarget);
    out_.weights.resize(first + length_, 0.0F);
    out_.counts.resize(first + length_, 0.0F);
    return first;
  }

  bool is_predicted(std::size_t i) const {
    return options_.first_of_block || static_cast<std::int64_t>(i) % block_size_ != 0;
  }

  float weight_of(std::size_t i, const Noise& noise) const {
    if (!options_.inverse_weight) return text_.weights[i];
    const double factor = std::min(options_.max_weight, 1 / noise.probability[i]);
    return static_cast<float>(text_.weights[i] * factor);
  }

  // Of token `i` of the copy that begins at row `first`. Nothing stands before its first token.
  void set_target(std::size_t first, std::size_t i, bool shift, float weight, float count) {
    if (shift && i == 0) return;
    const std::size_t row = first + i - (shift ? 1 : 0);
    out_.targets[row] = text_.tokens[i];
    out_.weights[row] = weight;
    out_.counts[row] = count;
  }

  const NoisingOptions& options_;
  const TrainingSequence& text_;
  std::size_t length_;
  std::int64_t block_size_;
  TrainingSequence out_;
};

void check_text(const TrainingSequence& text, std::int32_t mask_token_id, std::int64_t number) {
  check(text.targets.empty() && text.counts.empty() && text.positions.empty() &&
            text.labels.empty() && text.lists.empty(),
        "data: sequences with targets, positions, labels or lists can not be noised");
  check_eq(text.weights.size(), text.tokens.size(), "data: weights and tokens differ in number");
  for (std::size_t i = 0; i < text.tokens.size(); ++i) {
    demand(text.weights[i] == 0 || text.tokens[i] != mask_token_id, "data: the mask token (",
           mask_token_id, ") is to be learnt at token ", i,
           " of the example that is read as number ", number);
  }
}

}  // namespace

NoisedCopies::NoisedCopies(const NoisingOptions& options) : options_(options) {
  const BlockGrowth& growth = options.block_size;
  check(growth.first >= 1 && growth.last >= growth.first && growth.factor >= 2 &&
            growth.interval >= 1 && growth.delay >= 0,
        "diffusion: blocks must have at least one token and grow by a factor of at least 2");
  check(options.views == 1 || options.views == 2, "diffusion: there are 1 or 2 views of a text");
  check(options.mask_token_id >= 0, "diffusion: the mask token is negative");
  // The complement of a probability has another weight: means over both views need none.
  check(options.views == 1 || !options.inverse_weight,
        "diffusion: complementary views count each token once, without 1 / p");
  check(!options.clean_targets || options.attention == Attention::kContextCausal,
        "diffusion: only a causal clean copy can be asked for its next token");
  check(options.first_of_block || (options.shift && options.attention != Attention::kFull),
        "diffusion: only with shift and blocks can the first token of a block be left out");
  check(options.attention != Attention::kFull || options.noise_unit == NoiseUnit::kSequence,
        "diffusion: without blocks a whole sequence shares a noise level");
  check(growth.first > 1 || options.first_of_block || options.clean_targets,
        "diffusion: blocks of one token whose first is left out leave nothing to learn");
}

TrainingSequence NoisedCopies::apply(TrainingSequence text, const Place& place) const {
  if (text.weights.empty()) text.weights.assign(text.tokens.size(), 1.0F);
  check_text(text, options_.mask_token_id, place.number);
  const auto length = static_cast<std::int64_t>(text.tokens.size());
  const std::int64_t block_size = options_.block_size.at(place.step);
  CopyWriter copies(options_, text, block_size);
  const bool has_clean = options_.attention != Attention::kFull;
  if (has_clean && block_size == 1 && !options_.first_of_block) {
    copies.add_clean();
    return copies.take(Mask::causal());
  }
  const bool by_block = options_.noise_unit == NoiseUnit::kBlock;
  const Noise noise =
      draw_noise(length, by_block ? block_size : length,
                 Random(options_.seed ^ kNoiseSeed, static_cast<std::uint64_t>(place.number)));
  for (int view = 0; view < options_.views; ++view) copies.add_noised(noise, view);
  if (has_clean) copies.add_clean();
  return copies.take(diffusion_mask(options_.attention, length, block_size, options_.views));
}

}  // namespace perpend
