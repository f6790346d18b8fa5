#pragma once

#include <cstdint>
#include <vector>

namespace perpend {

// In which order examples are read, epoch after epoch: a random permutation of its own for each, or
// always as they lie. The n-th example depends on the arguments and n alone.
class SequenceOrder {
 public:
  struct Place {
    std::int64_t index = 0;
    std::int64_t epoch = 0;
  };

  // Throws InvalidArgument when there are no examples.
  SequenceOrder(std::int64_t size, std::uint64_t seed, bool shuffle);

  // Example number `n` of the run, n >= 0. Quick when n grows.
  Place at(std::int64_t n);

 private:
  void permute(std::int64_t epoch);

  std::int64_t size_;
  std::uint64_t seed_;
  bool shuffle_;
  std::int64_t epoch_ = -1;                // that `permutation_` is of
  std::vector<std::int64_t> permutation_;  // [size]
};

}  // namespace perpend
