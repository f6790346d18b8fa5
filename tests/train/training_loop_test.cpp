// Runs on disk: logs, states, and what is said of damaged ones.

#include "perpend/train/training_loop.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/train/training_state.h"
#include "tests/io/temporary_folder.h"
#include "tests/train/tiny_training.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct LoopRun {
  LoopRun() {
    options.out = folder.file("run");
    options.num_steps = 6;
    options.state_every = 2;
  }

  // True when it came to its end.
  bool run(std::int64_t stop_after = 100) {
    model = std::make_unique<TinyModel>();
    TrainerOptions trainer_options;
    trainer_options.batch = {.sequences = 2, .tokens = 0, .shuffle = true, .seed = 1};
    trainer_options.learning_rate.peak = learning_rate;
    const auto sequences = random_sequences({9, 14, 21}, 21);
    Trainer trainer(model->llama, model->all_tensors(), std::make_shared<MemoryDataset>(sequences),
                    next_token(), std::vector<Mask>(3, Mask::causal()), trainer_options);
    return run_training(trainer, options,
                        [&](const LogEntry& entry) { return entry.step < stop_after; });
  }

  std::vector<LogEntry> log() const { return read_train_log(options.out + "/log.jsonl"); }
  std::string state(std::int64_t step) const { return options.out + "/states/" + state_name(step); }

  TemporaryFolder folder;
  LoopOptions options;
  double learning_rate = 1e-2;
  std::unique_ptr<TinyModel> model;
};

std::vector<std::pair<std::int64_t, double>> losses_of(const std::vector<LogEntry>& entries) {
  std::vector<std::pair<std::int64_t, double>> losses;
  for (const LogEntry& entry : entries) losses.emplace_back(entry.step, entry.loss);
  return losses;
}

TEST(TrainingLoop, AResumedRunIsAnUninterruptedOne) {
  LoopRun whole;
  EXPECT_TRUE(whole.run());
  LoopRun broken;
  EXPECT_FALSE(broken.run(3));
  // As a run that was killed behind its last state leaves the log.
  std::filesystem::remove_all(broken.state(3));
  EXPECT_EQ(broken.log().size(), 3U);
  broken.options.resume = true;
  EXPECT_TRUE(broken.run());
  const auto expected = whole.model->copies();
  const auto found = broken.model->copies();
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(torch::equal(found[i], expected[i]));
  EXPECT_EQ(losses_of(broken.log()), losses_of(whole.log()));
  EXPECT_THAT(list_states(whole.options.out + "/states"), ElementsAre(4, 6));
  broken.options.resume = true;
  EXPECT_TRUE(broken.run(0));  // finished already
  for (const char* name : {"/loss.svg", "/loss.png"}) {
    EXPECT_TRUE(std::filesystem::exists(whole.options.out + name));
  }
}

template <class F>
std::string run_error(F f) {
  try {
    f();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::int64_t> evaluated_steps(const LoopRun& run) {
  std::vector<std::int64_t> steps;
  for (const LogEntry& entry : run.log()) {
    if (entry.evaluation) steps.push_back(entry.step);
  }
  return steps;
}

TEST(TrainingLoop, IsEvaluatedNowAndThenAndAtTheEnd) {
  LoopRun run;
  run.options.log_every = 5;
  run.options.evaluate_every = 4;
  int count = 0;
  run.options.evaluate = [&] {
    ++count;
    return TargetScore{.count = 10, .num_exact = count, .weight = 2.0, .loss_sum = 6.0};
  };
  EXPECT_TRUE(run.run());
  EXPECT_THAT(evaluated_steps(run), ElementsAre(4, 6));
  EXPECT_EQ(run.log().size(), 3U);  // step 5 too
  EXPECT_EQ(run.log().back().evaluation->loss, 3.0);
  EXPECT_EQ(run.log().back().evaluation->exact_match, 0.2);
}

TEST(TrainingLoop, EndsWhereEnoughIsExact) {
  LoopRun run;
  run.options.evaluate_every = 1;
  run.options.stop_at = 0.5;
  int count = 0;
  run.options.evaluate = [&] { return TargetScore{.count = 4, .num_exact = count++}; };
  EXPECT_TRUE(run.run());
  EXPECT_THAT(evaluated_steps(run), ElementsAre(1, 2, 3));
  EXPECT_THAT(list_states(run.options.out + "/states"), ElementsAre(2, 3));
  run.options.resume = true;
  EXPECT_TRUE(run.run());  // finished already
  EXPECT_EQ(run.log().size(), 3U);
}

TEST(TrainingLoop, ARunIsNotWrittenOver) {
  LoopRun run;
  run.run();
  EXPECT_THAT(run_error([&] { run.run(); }), HasSubstr("holds a run already"));
}

TEST(TrainingLoop, ALossThatIsNoNumberEndsTheRun) {
  LoopRun run;
  run.learning_rate = 1e30;
  EXPECT_THAT(run_error([&] { run.run(); }), HasSubstr("try a lower learning rate"));
}

TEST(TrainingLoop, DamagedAndForeignStatesAreErrors) {
  LoopRun run;
  run.run(4);
  run.options.resume = true;
  const std::string tensors = run.state(4) + "/state.safetensors";
  const std::string state = run.state(4) + "/state.json";
  const auto size = std::filesystem::file_size(tensors);
  const auto resume = [&] { return run_error([&] { run.run(); }); };
  {
    std::fstream file(tensors, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size / 2));
    file.put('x').put('y');
  }
  EXPECT_THAT(resume(), HasSubstr("state.safetensors: damaged"));
  std::filesystem::resize_file(tensors, size / 2);
  EXPECT_THAT(resume(), HasSubstr("state.safetensors: damaged"));
  std::filesystem::remove(tensors);
  EXPECT_THAT(resume(), HasSubstr("state.safetensors"));
  run.folder.add("run/states/" + state_name(4) + "/state.json", "{}");
  EXPECT_THAT(resume(), HasSubstr("state.json: expected the format"));
  std::filesystem::remove_all(run.state(4));
  run.options.seed = 5;
  EXPECT_THAT(resume(), HasSubstr("seed of the saved run and of this one differ (0 vs 5)"));
}

TEST(TrainingState, TensorsOfAnotherModelAreRefusedBeforeAnythingIsWritten) {
  const TemporaryFolder folder;
  const std::vector<TrainedTensor> saved = {{"a", torch::ones({2})}, {"b", torch::ones({3})}};
  save_training_state(folder.file("state"), {}, saved);
  for (const char* name : {"c", "b"}) {
    const torch::Tensor first = torch::zeros({2});
    const std::vector<TrainedTensor> other = {{"a", first}, {name, torch::zeros({4})}};
    EXPECT_THROW(load_training_state(folder.file("state"), other), IoError);
    EXPECT_EQ(first.sum().item<double>(), 0);
  }
}

TEST(TrainingState, OldAndHalfWrittenOnesGo) {
  const TemporaryFolder folder;
  for (const int step : {5, 10, 15}) {
    save_training_state(folder.file(state_name(step)), {}, {{"a", torch::ones({2})}});
  }
  std::filesystem::create_directory(folder.file(state_name(20) + ".tmp123"));
  EXPECT_THAT(list_states(folder.path()), ElementsAre(5, 10, 15));
  remove_old_states(folder.path(), 2);
  EXPECT_THAT(list_states(folder.path()), ElementsAre(10, 15));
  EXPECT_FALSE(std::filesystem::exists(folder.file(state_name(20) + ".tmp123")));
}

}  // namespace
}  // namespace perpend
