#include "perpend/decode/block_loop.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/decode/autoregressive.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/history_model.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int32_t kMaskToken = 49;

// How many of a step's rows, all of whose tokens are known up to `num_known`, stay in the cache.
enum class Commits { kNothing, kPending, kKnown };

// Reveals a block of masked tokens from left to right, one a step: the same tokens as
// autoregression, if the loop keeps the committed rows and forgets the others.
class LeftToRight final : public Denoiser {
 public:
  LeftToRight(std::size_t block_size, Commits commits)
      : block_size_(block_size), commits_(commits) {}

  void open(std::span<const std::int32_t> tokens, std::int64_t num_pending) override {
    const auto pending = tokens.last(static_cast<std::size_t>(num_pending));
    rows_.assign(pending.begin(), pending.end());
    rows_.insert(rows_.end(), block_size_, kMaskToken);
    num_pending_ = num_known_ = num_pending;
    block_.clear();
  }

  Step next_step() override {
    logit_row_ = static_cast<std::int32_t>(num_known_ - 1);
    return {rows_, {&logit_row_, 1}};
  }

  using Denoiser::take;
  void take(std::int64_t /*first*/, const torch::Tensor& logits,
            const Context& /*context*/) override {
    token_ =
        HistoryModel::argmax({logits.data_ptr<float>(), static_cast<std::size_t>(logits.size(1))});
  }

  StepResult update() override {
    const std::int32_t token = token_;
    rows_[static_cast<std::size_t>(num_known_)] = token;
    block_.push_back({{token, 0.0F}, {}});
    const std::int64_t committed = commits_ == Commits::kNothing   ? 0
                                   : commits_ == Commits::kPending ? num_pending_
                                                                   : num_known_;
    rows_.erase(rows_.begin(), rows_.begin() + committed);
    num_known_ += 1 - committed;
    num_pending_ = 0;
    return {.num_committed = committed, .finished = block_.size() == block_size_};
  }

  std::span<const Sample> block() const override { return block_; }
  std::int64_t num_forwards() const override { return 0; }
  std::int64_t num_rows() const override { return 0; }

 private:
  std::size_t block_size_;
  Commits commits_;
  Tokens rows_;
  std::int64_t num_pending_ = 0;
  std::int64_t num_known_ = 0;
  std::int32_t logit_row_ = 0;
  std::int32_t token_ = 0;
  std::vector<Sample> block_;
};

// Notes every call and that the sequence has been cut to what is final.
class RecordingPolicy final : public CachePolicy {
 public:
  void commit(KvSequence& sequence, std::int64_t num_committed) override {
    EXPECT_EQ(sequence.length(), num_committed);
    calls.push_back(num_committed);
  }
  std::vector<std::int64_t> calls;
};

class BlockLoopTest : public testing::Test {
 protected:
  explicit BlockLoopTest(std::int64_t max_tokens = 512)
      : store_({.num_layers = 1,
                .num_kv_heads = 1,
                .head_dim = 1,
                .page_size = 4,
                .dtype = DType::kF32,
                .max_tokens = max_tokens}) {}

  BlockLoop loop(KvSequence& sequence, std::int64_t prefill_chunk = 512) {
    return {model_, runtime_.context(), sequence, policy_, masks_, prefill_chunk};
  }

  static Tokens next(BlockLoop& loop, Denoiser& denoiser, int num_blocks) {
    Tokens tokens;
    for (int i = 0; i < num_blocks; ++i) {
      for (const Sample& sample : loop.next_block(denoiser)) tokens.push_back(sample.chosen.token);
    }
    return tokens;
  }

  Runtime runtime_{1};
  HistoryModel model_{300};
  KvStore store_;
  RecordingPolicy policy_;
  std::vector<Mask> masks_{Mask::causal()};
  const Tokens prompt_{3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9, 32, 38, 46};
};

TEST_F(BlockLoopTest, ABlockOfOneIsAutoregression) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence);
  loop.push(prompt_);
  Autoregressive denoiser({}, 0);
  EXPECT_EQ(next(loop, denoiser, 40), model_.continuation(prompt_, 40));
  EXPECT_EQ(model_.num_runs, 40);
  EXPECT_EQ(loop.tokens().size(), prompt_.size() + 40);
  EXPECT_EQ(sequence.length(), static_cast<std::int64_t>(prompt_.size()) + 39);
}

TEST_F(BlockLoopTest, BlocksRevealedFromLeftToRightAreAutoregression) {
  for (Commits commits : {Commits::kNothing, Commits::kPending, Commits::kKnown}) {
    for (int block_size : {1, 2, 3, 4, 7}) {
      KvSequence sequence(store_);
      BlockLoop loop = this->loop(sequence);
      loop.push(prompt_);
      LeftToRight denoiser(static_cast<std::size_t>(block_size), commits);
      EXPECT_EQ(next(loop, denoiser, 5), model_.continuation(prompt_, 5 * block_size))
          << "block " << block_size << ", commits " << static_cast<int>(commits);
    }
  }
}

TEST_F(BlockLoopTest, KindsOfBlocksCanFollowEachOther) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence);
  loop.push(prompt_);
  Autoregressive single({}, 0);
  LeftToRight five(5, Commits::kPending);
  Tokens tokens = next(loop, five, 1);
  for (const Tokens& more : {next(loop, single, 2), next(loop, five, 2)}) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  EXPECT_EQ(tokens, model_.continuation(prompt_, 17));
}

TEST_F(BlockLoopTest, ChunksOfThePromptChangeNothing) {
  for (std::int64_t chunk = 1; chunk <= 16; ++chunk) {
    KvSequence sequence(store_);
    BlockLoop loop = this->loop(sequence, chunk);
    loop.push(prompt_);
    policy_.calls.clear();
    std::vector<std::int64_t> progress;
    EXPECT_TRUE(loop.prefill([&](std::int64_t done) {
      progress.push_back(done);
      return true;
    }));
    EXPECT_EQ(progress, policy_.calls);
    EXPECT_EQ(static_cast<std::int64_t>(progress.size()), (15 - 1) / chunk);
    EXPECT_LE(15 - sequence.length(), chunk);
    Autoregressive denoiser({}, 0);
    EXPECT_EQ(next(loop, denoiser, 3), model_.continuation(prompt_, 3)) << "chunk " << chunk;
  }
}

TEST_F(BlockLoopTest, APrefillThatWasStoppedLeavesTheRestPending) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence, 4);
  loop.push(prompt_);
  EXPECT_FALSE(loop.prefill([](std::int64_t done) { return done < 8; }));
  EXPECT_EQ(sequence.length(), 8);
  Autoregressive denoiser({}, 0);
  EXPECT_EQ(next(loop, denoiser, 3), model_.continuation(prompt_, 3));
}

TEST_F(BlockLoopTest, TokensCanBePushedBetweenBlocks) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence, 2);
  loop.push(prompt_);
  Autoregressive denoiser({}, 0);
  Tokens all = prompt_;
  for (int turn = 0; turn < 3; ++turn) {
    const Tokens answer = next(loop, denoiser, 4);
    EXPECT_EQ(answer, model_.continuation(all, 4));
    all.insert(all.end(), answer.begin(), answer.end());
    const Tokens more = {turn, 40, 41};
    loop.push(more);
    all.insert(all.end(), more.begin(), more.end());
    EXPECT_TRUE(loop.prefill());
  }
  EXPECT_EQ(Tokens(loop.tokens().begin(), loop.tokens().end()), all);
}

TEST_F(BlockLoopTest, PoliciesHearOfFinalTokensAlone) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence);
  loop.push(prompt_);
  LeftToRight denoiser(3, Commits::kPending);
  next(loop, denoiser, 2);
  // Of each block the first step commits what was pending, the second nothing; the third ends it.
  EXPECT_EQ(policy_.calls, (std::vector<std::int64_t>{15, 15, 18, 18}));
}

TEST_F(BlockLoopTest, ASeedDecidesTheTokens) {
  const auto with_seed = [&](std::uint64_t seed) {
    KvSequence sequence(store_);
    BlockLoop loop = this->loop(sequence);
    loop.push(prompt_);
    Autoregressive denoiser({.temperature = 1, .seed = seed}, 0);
    return next(loop, denoiser, 20);
  };
  EXPECT_EQ(with_seed(1), with_seed(1));
  EXPECT_NE(with_seed(1), with_seed(2));
}

TEST_F(BlockLoopTest, WhatDoesNotFitIsRefused) {
  KvSequence sequence(store_);
  EXPECT_THROW(loop(sequence, 0), InvalidArgument);
  BlockLoop loop = this->loop(sequence);
  loop.push(prompt_);
  EXPECT_THROW(loop.push(Tokens(300, 1)), InvalidArgument);
  EXPECT_EQ(loop.tokens().size(), prompt_.size());
  Autoregressive denoiser({}, 0);
  EXPECT_EQ(next(loop, denoiser, 2), model_.continuation(prompt_, 2));
}

class FullStore : public BlockLoopTest {
 protected:
  FullStore() : BlockLoopTest(16) {}
};

TEST_F(FullStore, IsOutOfMemory) {
  KvSequence sequence(store_);
  BlockLoop loop = this->loop(sequence);
  loop.push(prompt_);
  Autoregressive denoiser({}, 0);
  EXPECT_THROW(next(loop, denoiser, 20), OutOfMemory);
  EXPECT_EQ(sequence.length(), 20);
}

}  // namespace
}  // namespace perpend
