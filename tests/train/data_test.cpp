// Examples on disk and in batches, and the order in which they come.

#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "perpend/train/batch_reader.h"
#include "perpend/train/chunked_dataset.h"
#include "perpend/train/memory_dataset.h"
#include "perpend/train/sequence_folder.h"
#include "tests/io/temporary_folder.h"

namespace perpend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Sequences whose tokens say where they are from: sequence s has s * 100, s * 100 + 1, ...
std::vector<TrainingSequence> numbered(const std::vector<int>& lengths) {
  std::vector<TrainingSequence> sequences;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    TrainingSequence sequence;
    for (int i = 0; i < lengths[s]; ++i) sequence.tokens.push_back(static_cast<int>(s) * 100 + i);
    sequences.push_back(sequence);
  }
  return sequences;
}

std::shared_ptr<const Dataset> in_memory(const std::vector<TrainingSequence>& sequences) {
  return std::make_shared<MemoryDataset>(sequences);
}

TEST(SequenceOrder, EveryEpochIsAPermutationOfItsOwn) {
  SequenceOrder order(20, 7, true);
  std::vector<std::vector<std::int64_t>> epochs;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::int64_t> indices;
    for (std::int64_t i = 0; i < 20; ++i) {
      const auto place = order.at(epoch * 20 + i);
      EXPECT_EQ(place.epoch, epoch);
      indices.push_back(place.index);
    }
    EXPECT_EQ(std::set<std::int64_t>(indices.begin(), indices.end()).size(), 20U);
    epochs.push_back(indices);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  SequenceOrder again(20, 7, true);
  EXPECT_EQ(again.at(45).index, epochs[2][5]);  // at once
  SequenceOrder other(20, 8, true);
  bool differs = false;
  for (std::int64_t i = 0; i < 20; ++i) differs |= other.at(i).index != epochs[0][i];
  EXPECT_TRUE(differs);
  EXPECT_THROW(SequenceOrder(0, 7, true), InvalidArgument);
}

TEST(BatchReader, GoesOnAnywhere) {
  const auto data = in_memory(numbered({3, 5, 2, 7, 4}));
  for (const BatchOptions& options : {BatchOptions{2, 0, true, 3}, BatchOptions{0, 10, true, 3}}) {
    BatchReader whole(data, options);
    std::vector<PackedBatch> batches;
    std::vector<std::int64_t> places = {0};
    for (int i = 0; i < 8; ++i) {
      batches.push_back(whole.next());
      places.push_back(whole.num_read());
    }
    for (std::size_t from = 0; from < batches.size(); ++from) {
      BatchReader reader(data, options);
      reader.seek(places[from]);
      for (std::size_t i = from; i < batches.size(); ++i) {
        EXPECT_EQ(reader.next().tokens, batches[i].tokens);
      }
    }
  }
}

TEST(BatchReader, FillsABatchAsFarAsTokensFit) {
  BatchReader reader(in_memory(numbered({3, 5, 2, 7})), {0, 10, false, 0});
  EXPECT_THAT(reader.next().q_indptr, ElementsAre(0, 3, 8, 10));
  EXPECT_THAT(reader.next().q_indptr, ElementsAre(0, 7, 10));
  EXPECT_THAT(reader.next().q_indptr, ElementsAre(0, 5, 7));
  BatchReader small(in_memory(numbered({3, 5})), {0, 4, false, 0});
  small.next();
  EXPECT_THROW(small.next(), InvalidArgument);
  EXPECT_THROW(BatchReader(in_memory(numbered({3})), {0, 0, false, 0}), InvalidArgument);
  EXPECT_THROW(BatchReader(in_memory(numbered({3})), {1, 1, false, 0}), InvalidArgument);
  BatchReader empty(in_memory(numbered({0})), {0, 4, false, 0});
  EXPECT_THROW(empty.next(), InvalidArgument);
}

TEST(PackedBatch, TargetsAreTheTokensBehindOrThoseGiven) {
  auto sequences = numbered({3, 2});
  sequences[0].weights = {9, 0.5F, 2};
  sequences[1].targets = {7, kNoTarget};
  sequences[1].positions = {40, 10};
  const std::vector<std::int64_t> numbers = {0, 1};
  const PackedBatch batch = pack(sequences, numbers);
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, kNoTarget, 7, kNoTarget));
  EXPECT_THAT(batch.weights, ElementsAre(0.5F, 2, 0, 1, 0));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 40, 10));
  sequences[1].labels["doc"] = {0, 1};
  EXPECT_THROW(pack(sequences, numbers), InvalidArgument);
  sequences[0].labels["doc"] = {0, 1};
  EXPECT_THROW(pack(sequences, numbers), InvalidArgument);
  sequences[0].labels["doc"] = {0, 1, 1};
  EXPECT_THAT(pack(sequences, numbers).labels.at("doc"), ElementsAre(0, 1, 1, 0, 1));
}

TEST(ChunkedDataset, CutsTheTokensOfAllSequences) {
  auto sequences = numbered({3, 4, 1, 5});
  for (TrainingSequence& sequence : sequences) {
    sequence.weights.assign(sequence.tokens.begin(), sequence.tokens.end());
  }
  const ChunkedDataset chunks(in_memory(sequences), 4);
  ASSERT_EQ(chunks.size(), 3);
  EXPECT_THAT(chunks.get(0, 0).tokens, ElementsAre(0, 1, 2, 100));
  EXPECT_THAT(chunks.get(0, 0).targets, ElementsAre(1, 2, 100, 101));
  EXPECT_THAT(chunks.get(0, 0).weights, ElementsAre(1, 2, 100, 101));
  EXPECT_THAT(chunks.get(1, 0).tokens, ElementsAre(101, 102, 103, 200));
  EXPECT_THAT(chunks.get(2, 0).targets, ElementsAre(301, 302, 303, 304));
  sequences[0].positions = {1, 2, 3};
  EXPECT_THROW(ChunkedDataset(in_memory(sequences), 4), InvalidArgument);
  EXPECT_THROW(ChunkedDataset(in_memory(numbered({3})), 0), InvalidArgument);
}

std::vector<TrainingSequence> with_everything() {
  auto sequences = numbered({3, 1, 4});
  sequences[2].tokens[1] = 70000;  // beyond 16 bits
  for (TrainingSequence& sequence : sequences) {
    const std::size_t length = sequence.tokens.size();
    sequence.targets.assign(length, 5);
    sequence.weights.assign(length, 0.25F);
    sequence.positions.assign(length, 9);
    sequence.labels["doc"].assign(length, -3);
    sequence.lists["positives"].assign(length - 1, static_cast<std::int32_t>(length));
  }
  return sequences;
}

void expect_same(const Dataset& data, const std::vector<TrainingSequence>& sequences) {
  ASSERT_EQ(data.size(), static_cast<std::int64_t>(sequences.size()));
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const TrainingSequence& expected = sequences[static_cast<std::size_t>(i)];
    const TrainingSequence found = data.get(i, 0);
    EXPECT_EQ(data.num_tokens(i), static_cast<std::int64_t>(expected.tokens.size()));
    EXPECT_EQ(found.tokens, expected.tokens);
    EXPECT_EQ(found.targets, expected.targets);
    EXPECT_EQ(found.weights, expected.weights);
    EXPECT_EQ(found.positions, expected.positions);
    EXPECT_EQ(found.labels, expected.labels);
    EXPECT_EQ(found.lists, expected.lists);
  }
}

TEST(SequenceFolder, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  for (const auto& sequences : {numbered({2, 5}), with_everything(), numbered({})}) {
    write_sequence_folder(folder.file("data"), sequences);
    expect_same(SequenceFolder(folder.file("data")), sequences);
  }
}

std::string error_of(const std::string& path) {
  try {
    SequenceFolder folder(path);
    return "";
  } catch (const IoError& error) {
    return error.what();
  }
}

TEST(SequenceFolder, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string path = folder.file("data");
  const auto fresh = [&] { write_sequence_folder(path, with_everything()); };
  EXPECT_THAT(error_of(path), HasSubstr("dataset.json"));
  for (const char* file : {"tokens.bin", "indptr.bin", "weights.bin", "label.doc.bin"}) {
    fresh();
    std::filesystem::resize_file(path + "/" + file, 6);
    EXPECT_THAT(error_of(path), HasSubstr(file));
    fresh();
    std::filesystem::remove(path + "/" + file);
    EXPECT_THAT(error_of(path), HasSubstr(file));
  }
  fresh();
  folder.add("data/indptr.bin", std::string(32, '\1'));
  EXPECT_THAT(error_of(path), HasSubstr("indptr.bin: expected numbers that rise from 0 to 8"));
  fresh();
  folder.add("data/dataset.json", R"({"format": "perpend-sequences", "version": 2})");
  EXPECT_THAT(error_of(path), HasSubstr("version 1"));
  folder.add("data/dataset.json",
             R"({"format": "perpend-sequences", "version": 1, "num_sequences": 3,
    "num_tokens": 8, "token_type": "u32", "arrays": ["weigths"]})");
  EXPECT_THAT(error_of(path), HasSubstr("weigths"));
}

}  // namespace
}  // namespace perpend
