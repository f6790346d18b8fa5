#pragma once

#include <cstdint>
#include <memory>

#include "perpend/train/packed_batch.h"
#include "perpend/train/sequence_order.h"
#include "perpend/train/sequence_transform.h"

namespace perpend {

struct BatchOptions {
  // Of a batch: either a number of sequences, or as many as fit a number of tokens.
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool repeat = true;  // epoch after epoch; else the reader ends behind the last example
  // Of each example; null: it stays as it is. `tokens` counts what it is made of.
  std::shared_ptr<const SequenceTransform> transform = {};
};

// Packs a dataset's examples batch after batch. Where it stands is one number, so that a run can go
// on in the middle of an epoch.
class BatchReader {
 public:
  // Throws InvalidArgument for an empty dataset and unless one of sequences and tokens is positive.
  BatchReader(std::shared_ptr<const Dataset> dataset, const BatchOptions& options);

  // The next batch, for a step of the optimizer; without rows at the end. Throws InvalidArgument
  // for an example without tokens or with more than a batch holds.
  PackedBatch next(std::int64_t step = 0);

  // Examples read since the run began.
  std::int64_t num_read() const { return num_read_; }
  std::int64_t dataset_size() const { return dataset_->size(); }
  void seek(std::int64_t num_read) { num_read_ = num_read; }

 private:
  std::shared_ptr<const Dataset> dataset_;
  BatchOptions options_;
  SequenceOrder order_;
  std::int64_t num_read_ = 0;
};

}  // namespace perpend
