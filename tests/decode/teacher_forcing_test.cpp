#include "perpend/decode/teacher_forcing.h"

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/nn/runtime.h"
#include "tests/decode/exact_logprobs.h"
#include "tests/decode/tiny_llama.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using Tokens = std::vector<std::int32_t>;
using Logprobs = std::vector<double>;

class TeacherForcingTest : public testing::Test {
 protected:
  LoadedModel load(std::uint64_t seed) {
    const std::string path = folder_.file(std::to_string(seed));
    TinyLlama{.weight = TinyLlama::random(seed)}.write(path);
    return {path, LinearMode::kF32, runtime_.context()};
  }
  TeacherForcing forcing(const LoadedModel& model, std::int64_t window) {
    return {.model = model,
            .context = runtime_.context(),
            .kv_dtype = DType::kF32,
            .layer_masks = {},
            .window = window};
  }

  // Calls visit(place of a token, tokens before it in its window) as the header says.
  template <class Visit>
  void for_each_prediction(std::int64_t window, Visit visit) {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      const std::size_t begin = i - i % static_cast<std::size_t>(window);
      if (i > begin) visit(i, std::span(tokens_).subspan(begin, i - begin));
    }
  }

  static Tokens random_tokens() {
    Random random(3);
    Tokens tokens(301);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random.next_below(257));
    return tokens;
  }

  TemporaryFolder folder_;
  Runtime runtime_{2};
  LoadedModel model_ = load(1);
  Tokens tokens_ = random_tokens();
};

TEST_F(TeacherForcingTest, ScoresEachTokenFromThoseBeforeItInItsWindow) {
  for (std::int64_t window : {2, 100, 150, 512}) {
    double nll = 0;
    std::int64_t count = 0;
    for_each_prediction(window, [&](std::size_t i, std::span<const std::int32_t> before) {
      nll -= exact_logprobs(model_, before, runtime_.context())[tokens_[i]];
      ++count;
    });
    std::int64_t last = 0;
    const Score score = score_teacher_forced(forcing(model_, window), tokens_,
                                             [&](std::int64_t done) { last = done; });
    EXPECT_EQ(score.count, count);
    EXPECT_NEAR(score.mean_nll, nll / static_cast<double>(count), 1e-5) << "window " << window;
    EXPECT_LE(last, 301);
    EXPECT_GE(last, 299);
  }
}

TEST_F(TeacherForcingTest, ComparesWithAReference) {
  const LoadedModel other = load(2);
  const std::int64_t window = 130;
  Agreement expected;
  for_each_prediction(window, [&](std::size_t i, std::span<const std::int32_t> before) {
    const Logprobs run = exact_logprobs(model_, before, runtime_.context());
    const Logprobs reference = exact_logprobs(other, before, runtime_.context());
    for (std::size_t token = 0; token < run.size(); ++token) {
      expected.mean_kl += std::exp(reference[token]) * (reference[token] - run[token]);
    }
    const auto best = [](const Logprobs& row) {
      return std::ranges::max_element(row) - row.begin();
    };
    expected.top1 += best(run) == best(reference) ? 1 : 0;
    expected.mean_nll -= run[tokens_[i]];
    expected.mean_nll_reference -= reference[tokens_[i]];
    ++expected.count;
  });
  const Agreement found =
      compare_teacher_forced(forcing(model_, window), forcing(other, window), tokens_);
  const auto count = static_cast<double>(expected.count);
  EXPECT_EQ(found.count, expected.count);
  EXPECT_NEAR(found.mean_nll, expected.mean_nll / count, 1e-5);
  EXPECT_NEAR(found.mean_nll_reference, expected.mean_nll_reference / count, 1e-5);
  EXPECT_NEAR(found.mean_kl, expected.mean_kl / count, 1e-4 * expected.mean_kl / count);
  EXPECT_NEAR(found.top1, expected.top1 / count, 1e-9);
}

TEST_F(TeacherForcingTest, AModelAgreesWithItself) {
  const Agreement found = compare_teacher_forced(forcing(model_, 64), forcing(model_, 64), tokens_);
  EXPECT_EQ(found.top1, 1);
  EXPECT_EQ(found.mean_kl, 0);
  EXPECT_EQ(found.mean_nll, found.mean_nll_reference);
}

TEST_F(TeacherForcingTest, MasksThatSeeTheWholeWindowChangeNothing) {
  TeacherForcing masked = forcing(model_, 200);
  masked.layer_masks = {parse_mask("causal & window(200)"), Mask::causal()};
  const double plain = score_teacher_forced(forcing(model_, 200), tokens_).mean_nll;
  EXPECT_EQ(score_teacher_forced(masked, tokens_).mean_nll, plain);
  masked.layer_masks[0] = parse_mask("causal & window(3)");
  EXPECT_GT(std::abs(score_teacher_forced(masked, tokens_).mean_nll - plain), 1e-3);
}

TEST_F(TeacherForcingTest, WindowsAndTextsThatAreTooShortAreRefused) {
  EXPECT_THROW(score_teacher_forced(forcing(model_, 1), tokens_), InvalidArgument);
  EXPECT_THROW(score_teacher_forced(forcing(model_, 513), tokens_), InvalidArgument);
  EXPECT_THROW(score_teacher_forced(forcing(model_, 10), Tokens{5}), InvalidArgument);
  EXPECT_THROW(compare_teacher_forced(forcing(model_, 10), forcing(model_, 11), tokens_),
               InvalidArgument);
}

}  // namespace
}  // namespace perpend
