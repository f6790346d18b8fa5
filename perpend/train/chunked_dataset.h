#pragma once

#include <memory>
#include <vector>

#include "perpend/train/dataset.h"

namespace perpend {

// The tokens of all sequences of another dataset one after another, cut into examples of one length
// whatever the borders of documents, as language models are pretrained (arXiv:2402.10171). The rest
// that fills no chunk is left out. Tokens and weights pass; targets, positions, labels and lists
// have no meaning across documents.
class ChunkedDataset final : public Dataset {
 public:
  // What the last row of a chunk is to predict.
  enum class LastRow { kNextChunk, kNothing };

  // Throws InvalidArgument for a length below 1 and for sequences with what can not pass.
  ChunkedDataset(std::shared_ptr<const Dataset> source, std::int64_t chunk_tokens,
                 LastRow last_row = LastRow::kNextChunk);

  std::int64_t size() const override;
  std::int64_t num_tokens(std::int64_t /*index*/) const override { return chunk_tokens_; }
  // kNextChunk: with targets, the last one the first token of the next chunk. kNothing: tokens and
  // their weights alone.
  TrainingSequence get(std::int64_t index, std::int64_t epoch) const override;

 private:
  std::shared_ptr<const Dataset> source_;
  std::int64_t chunk_tokens_;
  std::int64_t num_ahead_;            // tokens read behind a chunk
  std::vector<std::int64_t> indptr_;  // where the source's sequences begin among all tokens
};

}  // namespace perpend
