#include "perpend/train/packed_batch.h"

#include <numeric>

#include "perpend/core/demand.h"

namespace perpend {
namespace {

// Appends one sequence after another.
class Packer {
 public:
  explicit Packer(PackedBatch& batch) : batch_(batch) {}

  void add(const TrainingSequence& sequence, std::int64_t number) {
    name_ = concat("data: example ", number, ": ");
    length_ = sequence.tokens.size();
    append(batch_.tokens, sequence.tokens);
    add_targets(sequence);
    add_positions(sequence);
    batch_.q_indptr.push_back(static_cast<std::int32_t>(batch_.tokens.size()));
    add_named(sequence);
    add_copies(sequence);
  }

 private:
  template <class T>
  static void append(std::vector<T>& all, const std::vector<T>& part) {
    all.insert(all.end(), part.begin(), part.end());
  }

  void check_length(std::size_t length, std::string_view what) const {
    check_eq(length, length_, concat(name_, what, " and tokens differ in number"));
  }

  void add_targets(const TrainingSequence& sequence) {
    std::vector<std::int32_t> targets = sequence.targets;
    std::vector<float> weights = sequence.weights;
    if (weights.empty()) weights.assign(length_, 1.0F);
    check_length(weights.size(), "weights");
    if (targets.empty() && length_ > 0) {
      targets.assign(sequence.tokens.begin() + 1, sequence.tokens.end());
      targets.push_back(kNoTarget);
      weights.erase(weights.begin());
      weights.push_back(0.0F);
    }
    check_length(targets.size(), "targets");
    for (std::size_t i = 0; i < length_; ++i) {
      demand(weights[i] >= 0, name_, "weight ", weights[i], " is negative");
      demand(targets[i] >= kNoTarget, name_, "target ", targets[i], " is negative");
      if (targets[i] == kNoTarget) weights[i] = 0;
    }
    append(batch_.targets, targets);
    append(batch_.weights, weights);
    add_counts(sequence.counts.empty() ? weights : sequence.counts);
  }

  void add_counts(const std::vector<float>& counts) {
    check_length(counts.size(), "counts");
    for (const float count : counts) {
      demand(count >= 0, name_, "count ", count, " is negative");
    }
    append(batch_.counts, counts);
  }

  void add_positions(const TrainingSequence& sequence) {
    if (sequence.positions.empty()) {
      batch_.positions.resize(batch_.positions.size() + length_);
      std::iota(batch_.positions.end() - static_cast<std::ptrdiff_t>(length_),
                batch_.positions.end(), 0);
      return;
    }
    check_length(sequence.positions.size(), "positions");
    for (const std::int32_t position : sequence.positions) {
      demand(position >= 0, name_, "position ", position, " is negative");
    }
    append(batch_.positions, sequence.positions);
  }

  void add_named(const TrainingSequence& sequence) {
    const std::size_t before = batch_.num_sequences() - 1;
    for (const auto& [name, values] : sequence.labels) {
      check_length(values.size(), name);
      append(batch_.labels[name], values);
    }
    for (const auto& [name, values] : batch_.labels) {
      check_eq(values.size(), batch_.tokens.size(),
               concat(name_, "not all examples have the label ", name));
    }
    for (const auto& [name, values] : sequence.lists) {
      PackedBatch::Lists& lists = batch_.lists[name];
      append(lists.values, values);
      lists.indptr.push_back(static_cast<std::int32_t>(lists.values.size()));
    }
    for (const auto& [name, lists] : batch_.lists) {
      check_eq(lists.indptr.size(), before + 2,
               concat(name_, "not all examples have the list ", name));
    }
  }

  void add_copies(const TrainingSequence& sequence) {
    const std::size_t before = batch_.num_noised.size();
    demand(sequence.num_noised >= 0 && sequence.num_noised <= static_cast<std::int64_t>(length_),
           name_, sequence.num_noised, " of ", length_, " rows can not be noised");
    batch_.num_noised.push_back(sequence.num_noised);
    demand_eq(batch_.masks.size(), sequence.mask ? before : 0, name_,
              "not all examples have a mask");
    if (sequence.mask) batch_.masks.push_back(*sequence.mask);
  }

  PackedBatch& batch_;
  std::string name_;  // begins errors
  std::size_t length_ = 0;
};

}  // namespace

PackedBatch pack(std::span<const TrainingSequence> sequences,
                 std::span<const std::int64_t> numbers) {
  PackedBatch batch;
  Packer packer(batch);
  for (std::size_t i = 0; i < sequences.size(); ++i) packer.add(sequences[i], numbers[i]);
  batch.num_tokens = batch.num_rows();
  return batch;
}

}  // namespace perpend
