// Engines that run for a while: nothing is left behind, and no other thread in the way.

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/campaign.h"
#include "tests/decode/engine_fixture.h"

namespace perpend {
namespace {

using EngineSoak = EngineTest;

TEST_F(EngineSoak, OtherThreadsMaySubmitAndCancel) {
  const LoadedModel model = load(std::nullopt);
  const EngineCase request{.prompt = {1, 2, 3}, .options = {.max_tokens = 6}};
  const Outcome expected = alone(model, request);
  constexpr int kRequests = 30;
  std::vector<Outcome> outcomes(kRequests);
  Engine engine(model, runtime_.context(), {.kv_dtype = DType::kF32, .max_tokens = 256});
  std::atomic<bool> finished = false;
  std::thread other([&] {
    for (int i = 0; i < kRequests; ++i) {
      const RequestId id = submit(engine, request, outcomes[static_cast<std::size_t>(i)]);
      if (i % 3 == 0) engine.cancel(id);
    }
    finished = true;
  });
  while (engine.step() || !finished) std::this_thread::yield();
  other.join();
  engine.run();
  for (int i = 0; i < kRequests; ++i) {
    const Outcome& outcome = outcomes[static_cast<std::size_t>(i)];
    EXPECT_EQ(outcome.num_ends, 1);
    if (i % 3 != 0) expect_same(outcome, expected);
  }
}

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Requests come and go for ten minutes in a long campaign, for a moment in a usual one; none leaves
// anything behind.
TEST_F(EngineSoak, LeavesNothingBehind) {
  using Clock = std::chrono::steady_clock;
  const std::uint64_t seconds =
      campaign_number("PERPEND_SOAK_SECONDS", std::getenv("PERPEND_LONG") != nullptr ? 600 : 1);
  const LoadedModel model = load(DiffusionAttention::kBlock);
  constexpr int kRunning = 6;
  constexpr std::int64_t kPage = 64;
  // Of the first, as many as run at a time fill the cache, and each grows into a page more.
  std::vector<EngineCase> cases(1);
  cases.front().prompt.assign(kPage - 24, 1);
  cases.front().options.max_tokens = 60;
  // Block size 1 is autoregression: the others have both.
  Random random(campaign_number("PERPEND_CAMPAIGN_SEED", 1), 77);
  for (int i = 0; i < 24; ++i) {
    cases.push_back(EngineCase::random(random, DiffusionAttention::kBlock));
  }
  std::vector<Outcome> expected;
  for (const EngineCase& request : cases) expected.push_back(alone(model, request));
  Engine engine(model, runtime_.context(),
                {.kv_dtype = DType::kF32,
                 .max_running = kRunning,
                 .max_rows = 200,
                 .max_tokens = kRunning * kPage});
  std::int64_t num_submitted = 0;
  std::int64_t num_answers = 0;
  std::int64_t early_bytes = 0;
  const auto start = Clock::now();
  const auto end = start + std::chrono::seconds(seconds);
  const auto goes_on = [&] { return Clock::now() < end || num_answers < 40; };
  while (goes_on() || engine.num_requests() > 0) {
    while (goes_on() && engine.num_requests() < 9) {
      const std::size_t index = num_submitted < kRunning ? 0 : random.next_below(cases.size());
      ++num_submitted;
      auto outcome = std::make_shared<Outcome>();
      const RequestId id = engine.submit(
          cases[index].prompt, cases[index].options,
          {.progress = cases[index].listener(outcome->streamed),
           .on_done =
               [&, index, outcome](GenerateResult result) {
                 outcome->result = std::move(result);
                 ++outcome->num_ends;
                 ++num_answers;
                 const bool cut = outcome->result.finish_reason == FinishReason::kCancelled &&
                                  !cases[index].pieces;
                 if (!cut) expect_same(*outcome, expected[index]);
               },
           .on_error = [](const std::exception& error) { ADD_FAILURE() << error.what(); }});
      if (index != 0 && !cases[index].pieces && random.next_below(10) == 0) engine.cancel(id);
    }
    engine.step();
    ASSERT_FALSE(HasFailure());
    const bool early = Clock::now() < start + std::chrono::milliseconds(200 * seconds);
    if (early) early_bytes = resident_bytes();
  }
  EXPECT_GT(engine.num_put_back(), 0);
  EXPECT_EQ(engine.kv_bytes(), 0);
  EXPECT_LT(resident_bytes() - early_bytes, 32 << 20) << "memory grew";
  std::cout << num_answers << " answers, " << engine.num_put_back() << " put back, resident "
            << (early_bytes >> 10) << " KiB early, " << (resident_bytes() >> 10) << " KiB late\n";
}

}  // namespace
}  // namespace perpend
