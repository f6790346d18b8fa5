#include "perpend/rank/ranker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/rank/ranking_model.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<RankDocument> kDocuments = {{.id = "a", .text = "red bricks"},
                                              {.id = "b", .title = "Sea", .text = "blue waves"},
                                              {.id = "c", .text = "green leaves of a tree"},
                                              {.id = "d", .text = ""}};

class RankerTest : public testing::Test {
 protected:
  // The words around a query and a document are about three hundred bytes: tokens of this model.
  static RankOptions options() {
    RankOptions options;
    options.config = {.layer = 3, .query_pos_offset = 350, .chunk_len = 60};
    options.kv_dtype = DType::kF32;
    return options;
  }
  std::string error_of(const std::vector<RankDocument>& documents, const RankOptions& options) {
    try {
      Ranker(model_.loaded(), model_.context(), options).rank("sea", documents);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  }

  RankingModel model_;
};

TEST_F(RankerTest, OrdersDocumentsByTheirScores) {
  Ranker ranker(model_.loaded(), model_.context(), options());
  const RankResult result = ranker.rank("sea", kDocuments);
  ASSERT_EQ(result.order.size(), 4);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_GE(result.scores[result.order[i - 1]], result.scores[result.order[i]]);
  }
  EXPECT_EQ(model_.loaded().tokenizer().decode(result.tokens[1]),
            "\nID: b | CONTENT: Sea blue waves | END ID: b");
  EXPECT_TRUE(result.cut.empty());
  EXPECT_GT(result.num_tokens, 300);
}

TEST_F(RankerTest, ShufflingTheListNeverChangesTheRanking) {
  Ranker ranker(model_.loaded(), model_.context(), options());
  const auto ids_of = [](const RankResult& result, const std::vector<RankDocument>& documents) {
    std::vector<std::string> ids;
    for (const std::size_t index : result.order) ids.push_back(documents[index].id);
    return ids;
  };
  std::vector<RankDocument> documents = kDocuments;
  const auto expected = ids_of(ranker.rank("sea", documents), documents);
  while (std::next_permutation(documents.begin(), documents.end(),
                               [](auto& a, auto& b) { return a.id < b.id; })) {
    EXPECT_EQ(ids_of(ranker.rank("sea", documents), documents), expected);
  }
}

TEST_F(RankerTest, WithoutTheQueryInFrontDocumentsAreComputedOnce) {
  RankOptions last = options();
  last.query_in_instruction = false;
  Ranker ranker(model_.loaded(), model_.context(), last);
  ranker.rank("sea", kDocuments);
  const RankResult again = ranker.rank("trees", kDocuments);
  EXPECT_EQ(again.num_reused, 5);
  const RankResult fresh =
      Ranker(model_.loaded(), model_.context(), last).rank("trees", kDocuments);
  EXPECT_EQ(fresh.num_reused, 0);
  EXPECT_EQ(again.scores, fresh.scores);
}

TEST_F(RankerTest, WrongListsGiveOneError) {
  EXPECT_EQ(error_of(kDocuments, options()), "no error");
  EXPECT_THAT(error_of({}, options()), HasSubstr("the list of documents is empty"));
  std::vector<RankDocument> twice = kDocuments;
  twice[3].id = "b";
  EXPECT_THAT(error_of(twice, options()),
              HasSubstr("the id 'b' is given twice (documents 2 and 4)"));
  std::vector<RankDocument> longer = kDocuments;
  longer[2].text = std::string(100, 'x');
  EXPECT_THAT(error_of(longer, options()),
              HasSubstr("document 'c' has 130 tokens, the limit is 60"));
}

TEST_F(RankerTest, LongDocumentsAreCutBeforeTheMarkOfTheirEnd) {
  std::vector<RankDocument> documents = kDocuments;
  documents[2].text = std::string(100, 'x');
  RankOptions cutting = options();
  cutting.long_documents = LongDocuments::kCut;
  const RankResult result =
      Ranker(model_.loaded(), model_.context(), cutting).rank("sea", documents);
  EXPECT_THAT(result.cut, ElementsAre(2));
  EXPECT_EQ(model_.loaded().tokenizer().decode(result.tokens[2]),
            "\nID: c | CONTENT: " + std::string(30, 'x') + " | END ID: c");
  documents[2].id = std::string(40, 'c');
  EXPECT_THAT(error_of(documents, cutting), HasSubstr("its id alone takes"));
}

TEST_F(RankerTest, BlocksSpellTheirPartsAndNoSpecialToken) {
  const Tokenizer& tokenizer = model_.loaded().tokenizer();
  const RankPrompter prompter(tokenizer, {.before = {TinyLlama::kEnd}, .after = {TinyLlama::kEnd}});
  const auto with = prompter.instruction("<|end|>");
  EXPECT_EQ(std::count(with.begin(), with.end(), TinyLlama::kEnd), 1);
  EXPECT_THAT(tokenizer.decode(with), HasSubstr("\nQuery: <|end|>\n\nDocuments:"));
  const auto without = prompter.instruction("<|end|>", false);
  EXPECT_THAT(tokenizer.decode(without), HasSubstr("\nDocuments:"));
  EXPECT_EQ(tokenizer.decode(without).find("<|end|>"), std::string::npos);
  const auto document = prompter.document({.id = "<|end|>", .text = "<|end|>"}, 100).tokens;
  EXPECT_EQ(std::count(document.begin(), document.end(), TinyLlama::kEnd), 0);
  const auto query = prompter.query("sea");
  EXPECT_EQ(std::count(query.begin(), query.end(), TinyLlama::kEnd), 1);
  EXPECT_TRUE(tokenizer.decode(query).ends_with("Best document: ["));
  const std::vector<std::string> ids = {"a", "b"};
  EXPECT_EQ(tokenizer.decode(prompter.answer(ids)), "a, b]");
}

}  // namespace
}  // namespace perpend
