// What steps read, prepared ahead of them: by place alone, one step ahead, errors at their place.

#include "perpend/train/step_reader.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/ops/schedule_cache.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

using testing::HasSubstr;

// Counts what is read, and may hold its readers back or fail at one example.
class WatchedDataset final : public Dataset {
 public:
  explicit WatchedDataset(std::vector<TrainingSequence> sequences)
      : sequences_(std::move(sequences)) {}

  std::int64_t size() const override { return sequences_.size(); }
  std::int64_t num_tokens(std::int64_t index) const override {
    return sequences_.num_tokens(index);
  }
  TrainingSequence get(std::int64_t index, std::int64_t epoch) const override {
    std::unique_lock lock(mutex_);
    ++num_begun_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return num_begun_ <= num_allowed_; });
    if (index == damaged_) throw IoError("lists/tokens.bin: sequence 4 ends too early");
    ++num_ended_;
    return sequences_.get(index, epoch);
  }

  void damage(std::int64_t index) { damaged_ = index; }
  // How many may be read, all others wait.
  void allow(std::int64_t count) {
    const std::scoped_lock lock(mutex_);
    num_allowed_ = count;
    changed_.notify_all();
  }
  void wait_until_begun(std::int64_t count) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_begun_ >= count; });
  }
  std::int64_t num_begun() const {
    const std::scoped_lock lock(mutex_);
    return num_begun_;
  }
  std::int64_t num_ended() const {
    const std::scoped_lock lock(mutex_);
    return num_ended_;
  }

 private:
  MemoryDataset sequences_;
  std::int64_t damaged_ = -1;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::int64_t num_allowed_ = 1 << 20;
  mutable std::int64_t num_begun_ = 0;
  mutable std::int64_t num_ended_ = 0;
};

// Two batches of two examples a step.
class StepReaderTest : public testing::Test {
 protected:
  std::unique_ptr<StepReader> reader(bool shuffle = false) {
    return std::make_unique<StepReader>(
        model_.llama,
        BatchReader(data_, {.sequences = 2, .tokens = 0, .shuffle = shuffle, .seed = 1}),
        /*accumulation=*/2, next_token(), std::vector<Mask>(3, Mask::causal()));
  }

  TinyModel model_;
  std::shared_ptr<WatchedDataset> data_ =
      std::make_shared<WatchedDataset>(random_sequences({5, 6, 7, 8, 9, 10, 11}, 31));
};

std::vector<std::vector<std::int32_t>> tokens_of(const PreparedStep& step) {
  std::vector<std::vector<std::int32_t>> tokens;
  for (const PreparedBatch& batch : step.batches) tokens.push_back(batch.packed.tokens);
  return tokens;
}

TEST_F(StepReaderTest, ReadsWhatABatchReaderReads) {
  const auto steps = reader(/*shuffle=*/true);
  BatchReader expected(data_, {.sequences = 2, .tokens = 0, .shuffle = true, .seed = 1});
  TrainingPlace place;
  for (; place.num_steps < 5; ++place.num_steps) {
    const PreparedStep step = steps->next(place);
    double count = 0;
    std::int64_t num_tokens = 0;
    for (const PreparedBatch& batch : step.batches) {
      const PackedBatch same = expected.next();
      EXPECT_EQ(batch.packed.tokens, same.tokens);
      count += next_token()[0].loss->count(same);
      num_tokens += same.num_tokens;
    }
    EXPECT_EQ(step.counts, std::vector<double>{count});
    EXPECT_EQ(step.num_tokens, num_tokens);
    EXPECT_EQ(step.num_read, expected.num_read());
    place.num_read = step.num_read;
  }
}

TEST_F(StepReaderTest, DependsOnThePlaceAlone) {
  const auto steps = reader(/*shuffle=*/true);
  std::vector<TrainingPlace> places(1);
  std::vector<std::vector<std::vector<std::int32_t>>> expected;
  for (int i = 0; i < 4; ++i) {
    const PreparedStep step = steps->next(places.back());
    expected.push_back(tokens_of(step));
    places.push_back({.num_steps = i + 1, .num_read = step.num_read});
  }
  for (const std::size_t i : {1U, 3U, 0U, 0U, 2U}) {
    EXPECT_EQ(tokens_of(steps->next(places[i])), expected[i]);
  }
}

TEST_F(StepReaderTest, IsOneStepAheadAndNoMore) {
  const auto steps = reader();
  steps->next({});
  data_->wait_until_begun(8);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(data_->num_begun(), 8);
}

TEST_F(StepReaderTest, DoesNotHoldUpTheStepBefore) {
  const auto steps = reader();
  data_->allow(4);
  EXPECT_EQ(steps->next({}).num_read, 4);
  data_->wait_until_begun(5);  // which waits
  data_->allow(100);
  EXPECT_EQ(steps->next({.num_steps = 1, .num_read = 4}).num_read, 8);
}

TEST_F(StepReaderTest, TellsAnErrorWhenItsStepIsAskedFor) {
  data_->damage(5);
  const auto steps = reader();
  const PreparedStep first = steps->next({});
  EXPECT_EQ(first.num_read, 4);
  const auto error_of_second = [&] {
    try {
      steps->next({.num_steps = 1, .num_read = 4});
    } catch (const IoError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(error_of_second(), HasSubstr("lists/tokens.bin: sequence 4"));
  EXPECT_THAT(error_of_second(), HasSubstr("lists/tokens.bin: sequence 4"));
  EXPECT_EQ(tokens_of(steps->next({})), tokens_of(first));
}

TEST_F(StepReaderTest, EndsWhileAStepIsBeingPrepared) {
  auto steps = reader();
  data_->allow(5);
  steps->next({});
  data_->wait_until_begun(6);
  std::thread end([&] { steps.reset(); });
  EXPECT_EQ(data_->num_ended(), 5);
  data_->allow(100);
  end.join();
  EXPECT_EQ(data_->num_ended(), data_->num_begun());
}

TEST_F(StepReaderTest, PlansWhatAttentionLooksFor) {
  const auto steps = reader();
  const PreparedStep step = steps->next({});
  const PreparedBatch& batch = step.batches[1];
  ASSERT_EQ(batch.plans.size(), 1U);  // of three layers
  AttentionShape shape;
  shape.num_q_heads = 4;
  shape.num_kv_heads = 2;
  shape.sequences = {{7, 7, 0}, {8, 8, 0}};
  const auto& attention = cpu_kernels().attention;
  const AttentionSpec spec{DType::kF32, DType::kF32, 8};
  for (const Sweep sweep : {Sweep::kRows, Sweep::kColumns}) {
    const auto& plan = sweep == Sweep::kRows ? batch.plans[0].rows : batch.plans[0].columns;
    EXPECT_EQ(schedule_cache().get(Mask::causal(), shape, attention.tiling(spec, sweep), sweep),
              plan);
  }
  EXPECT_EQ(batch.visible_pairs, 3 * 4 * (7 * 8 / 2 + 8 * 9 / 2));
}

TEST_F(StepReaderTest, RefusesStepsWithoutBatches) {
  EXPECT_THROW(
      StepReader(model_.llama, BatchReader(data_, {.sequences = 2, .tokens = 0, .seed = 1}),
                 /*accumulation=*/0, next_token(), {}),
      InvalidArgument);
}

}  // namespace
}  // namespace perpend
