#include "perpend/train/sequence_order.h"

#include <numeric>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/core/random.h"

namespace perpend {

SequenceOrder::SequenceOrder(std::int64_t size, std::uint64_t seed, bool shuffle)
    : size_(size), seed_(seed), shuffle_(shuffle) {
  check(size > 0, "data: there are no examples to train on");
}

SequenceOrder::Place SequenceOrder::at(std::int64_t n) {
  const std::int64_t epoch = n / size_;
  const std::int64_t place = n % size_;
  if (!shuffle_) return {place, epoch};
  if (epoch != epoch_) permute(epoch);
  return {permutation_[static_cast<std::size_t>(place)], epoch};
}

void SequenceOrder::permute(std::int64_t epoch) {
  permutation_.resize(static_cast<std::size_t>(size_));
  std::iota(permutation_.begin(), permutation_.end(), std::int64_t{0});
  Random random(seed_, static_cast<std::uint64_t>(epoch));
  for (std::size_t i = permutation_.size(); i > 1; --i) {
    std::swap(permutation_[i - 1], permutation_[random.next_below(i)]);
  }
  epoch_ = epoch;
}

}  // namespace perpend
