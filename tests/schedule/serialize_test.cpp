#include "perpend/schedule/serialize.h"

#include <sstream>

#include <gtest/gtest.h>

#include "perpend/core/error.h"
#include "tests/campaign.h"
#include "tests/schedule/random_case.h"

namespace perpend {
namespace {

std::string text_of(const Schedule& schedule) {
  std::ostringstream out;
  out << schedule;
  return out.str();
}

TEST(SerializedSchedule, ReadsBackEqual) {
  Random random(3);
  for (int i = num_trials(300); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, 60);
    const Sweep sweep = i % 2 == 0 ? Sweep::kRows : Sweep::kColumns;
    const Schedule schedule = compile(c.masks, c.shape, c.tiling, sweep);
    const auto bytes = serialize(schedule);
    const Schedule read = deserialize_schedule(bytes);
    ASSERT_EQ(text_of(read), text_of(schedule)) << c;
    ASSERT_EQ(read.tiling, schedule.tiling) << c;
    ASSERT_EQ(verify(read, c.masks), "") << c;
    ASSERT_EQ(serialize(read), bytes) << c;
  }
}

TEST(SerializedSchedule, CutBytesAreRefused) {
  const Schedule schedule =
      compile(parse_mask("causal & window(20)"), {{{50, 50, 0}}, 4, 2}, plain_tiling(16, 16));
  const auto bytes = serialize(schedule);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(deserialize_schedule(std::span(bytes).first(size)), InvalidArgument) << size;
  }
  auto longer = bytes;
  longer.push_back({});
  EXPECT_THROW(deserialize_schedule(longer), InvalidArgument);
}

// Whatever stands in the bytes: an error, or a schedule whose form holds.
TEST(SerializedSchedule, HostileBytesDoNoHarm) {
  Random random(4);
  for (int i = num_trials(3000); i > 0; --i) {
    const ScheduleCase c = random_schedule_case(random, 30);
    auto bytes = serialize(compile(c.masks, c.shape, c.tiling));
    for (std::uint64_t changes = 1 + random.next_below(3); changes > 0; --changes) {
      bytes[random.next_below(bytes.size())] = static_cast<std::byte>(random.next_below(256));
    }
    try {
      ASSERT_EQ(check_form(deserialize_schedule(bytes)), "");
    } catch (const InvalidArgument&) {
    }
  }
}

TEST(PrintedSchedule, NamesHeadsRowsAndSteps) {
  const AttentionShape shape{{{8, 8, 0}}, 2, 1};
  EXPECT_EQ(text_of(compile(Mask::causal(), shape, plain_tiling(4, 4))),
            "rows, heads 2/1\n"
            "sequence 0: 8 x 8 from 0, tiles 4 x 4, heads packed\n"
            "item 0 heads 0-1 rows 4-7: 4~0 0\n"
            "item 0 heads 0-1 rows 0-3: 0~0\n");
}

TEST(PrintedSchedule, ShowsPartsAndGathers) {
  Tiling tiling = plain_tiling(4, 8);
  tiling.outer_part = 2;
  tiling.sub_tiles = {2, 0, 0, 0};
  tiling.heads = HeadRows::kSeparate;
  const Mask mask = parse_mask("causal & (sink(2) | window(4))");
  // Keys 4 and 5 are needed by the first half of rows 8-11 alone and fill a place in the step of
  // both; keys 10 and 11 by the second half alone, in a step of their own.
  EXPECT_EQ(text_of(compile(mask, {{{16, 16, 0}}, 1, 1}, tiling)),
            "rows, heads 1/1\n"
            "sequence 0: 16 x 16 from 0, tiles 4 x 8, parts of 2, sub-tiles of 2\n"
            "item 0 heads 0-0 rows 8-11: {0 4 6 8}~2 {10}~3_\n"
            "item 0 heads 0-0 rows 12-15: {0 8 10 12}~2 {14}~3_\n"
            "item 0 heads 0-0 rows 0-3: {0 2}~0\n"
            "item 0 heads 0-0 rows 4-7: 0~1\n");
}

}  // namespace
}  // namespace perpend
