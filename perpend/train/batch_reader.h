#pragma once

#include <cstdint>
#include <memory>

#include "perpend/train/packed_batch.h"
#include "perpend/train/sequence_order.h"

namespace perpend {

struct BatchOptions {
  // Of a batch: either a number of sequences, or as many as fit a number of tokens.
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;
  bool shuffle = true;
  std::uint64_t seed = 0;
  bool repeat = true;  // epoch after epoch; else the reader ends behind the last example
};

// Packs a dataset's examples batch after batch. Where it stands is one number, so that a run can go
// on in the middle of an epoch.
class BatchReader {
 public:
  // Throws InvalidArgument for an empty dataset and unless one of sequences and tokens is positive.
  BatchReader(std::shared_ptr<const Dataset> dataset, const BatchOptions& options);

  // Without rows at the end. Throws InvalidArgument for an example without tokens or with more than
  // a batch holds.
  PackedBatch next();

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
