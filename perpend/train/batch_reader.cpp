#include "perpend/train/batch_reader.h"

#include <utility>
#include <vector>

#include "perpend/core/demand.h"

namespace perpend {

BatchReader::BatchReader(std::shared_ptr<const Dataset> dataset, const BatchOptions& options)
    : dataset_(std::move(dataset)),
      options_(options),
      order_(dataset_->size(), options.seed, options.shuffle) {
  check((options.sequences > 0) != (options.tokens > 0),
        "data: a batch needs either a number of sequences or a number of tokens");
}

PackedBatch BatchReader::next(std::int64_t step) {
  std::vector<TrainingSequence> sequences;
  std::vector<std::int64_t> numbers;
  std::int64_t num_tokens = 0;
  const auto is_full = [&] {
    return options_.sequences > 0 &&
           static_cast<std::int64_t>(sequences.size()) == options_.sequences;
  };
  const auto is_at_end = [&] { return !options_.repeat && num_read_ == dataset_->size(); };
  while (!is_full() && !is_at_end()) {
    const auto [index, epoch] = order_.at(num_read_);
    const std::int64_t length = dataset_->num_tokens(index);
    demand(length > 0, "data: example ", index, " has no tokens");
    if (options_.tokens > 0 && num_tokens + length > options_.tokens) {
      demand(!sequences.empty(), "data: example ", index, " has ", length,
             " tokens, a batch holds ", options_.tokens);
      break;
    }
    TrainingSequence example = dataset_->get(index, epoch);
    if (options_.transform) {
      example = options_.transform->apply(std::move(example), {.number = num_read_, .step = step});
    }
    sequences.push_back(std::move(example));
    numbers.push_back(index);
    num_tokens += length;
    ++num_read_;
  }
  PackedBatch batch = pack(sequences, numbers);
  batch.num_tokens = num_tokens;
  return batch;
}

}  // namespace perpend
