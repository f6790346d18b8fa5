#include "perpend/kernels/cuda/schedule_image.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <tuple>

#include "perpend/core/demand.h"
#include "perpend/schedule/gpu_tiling.h"

namespace perpend {
namespace {

using device::kPartRows;
using device::kTileRows;
using device::Step;

constexpr std::int64_t kMaxTokens = std::int64_t{1} << 31;
constexpr std::size_t kMostRowWords = 2;  // of a bitmap

// Bits of 64 columns that one thread has in its two columns of every eight, `pair` times two from
// the first: eight pairs, four bits apart.
constexpr std::uint32_t spread_pairs(std::uint64_t columns, int pair) {
  std::uint64_t x = columns >> (2 * pair) & 0x0303030303030303U;
  x = (x | x >> 4) & 0x00ff00ff00ff00ffU;
  x = (x | x >> 8) & 0x0000ffff0000ffffU;
  return static_cast<std::uint32_t>(x | x >> 16);
}

// The first of the four threads that share a row (see device::fragment_row()).
constexpr int first_thread_of(int row) { return row / 16 * 32 + row % 8 * 4; }

class ImageMaker {
 public:
  ImageMaker(const Schedule& schedule, int head_dim, const ImageChoice& choice,
             ScheduleImage memory)
      : schedule_(schedule),
        takes_(choice.takes),
        keeps_order_(choice.keeps_order),
        group_size_(schedule.shape.group_size()),
        queries_(queries_of_rows(1)),
        packed_queries_(queries_of_rows(std::min(group_size_, kPartRows))),
        image_(std::move(memory)),
        lists_(schedule.lists.size()) {
    image_.clear();
    image_.keys = device::keys_of_step(head_dim);
    image_.box_rows = choice.box_rows != 0 ? choice.box_rows : most_box_rows();
    image_.skips_parts = skips_parts(choice.part_skips);
  }

  ScheduleImage make() {
    const std::vector<TokenBases> bases = token_bases(schedule_.shape);
    image_.items.reserve(schedule_.items.size());
    for (const WorkItem& item : schedule_.items) {
      if (takes_(item)) add_item(item, bases[static_cast<std::size_t>(item.sequence)]);
    }
    if (!keeps_order_) share_keys();
    return std::move(image_);
  }

 private:
  static constexpr unsigned kHalves = 15;  // two of each part

  // A bitmap of the image.
  struct Bitmap {
    std::int32_t index = -1;
    unsigned halves = kHalves;  // as in Step::kHalvesShift
  };
  // Halves of which some parts have the first `columns` columns.
  static unsigned halves_of(unsigned parts, std::int64_t columns) {
    const unsigned of_part = columns > device::kWordColumns ? 3U : 1U;
    return ((parts & 1U) != 0 ? of_part : 0U) | ((parts & 2U) != 0 ? of_part << 2 : 0U);
  }
  // Steps of one list in the image.
  struct StepList {
    std::int32_t begin = -1;
    std::int32_t num_partial = 0;
    std::int32_t num_full = 0;
  };
  // What tells apart lists that share their entries.
  struct ListContext {
    ListRange range;
    std::int64_t kv_len = 0;
    unsigned present = 0;  // parts that the item has
    bool packed = false;

    auto key() const { return std::tuple(range.begin, range.end, kv_len, present, packed); }
    friend bool operator<(const ListContext& a, const ListContext& b) { return a.key() < b.key(); }
  };

  int most_box_rows() const {
    int rows = image_.keys;
    for (const TileEntry& entry : schedule_.entries) {
      if (entry.is_gathered()) rows = std::min<int>(rows, entry.sub_tile());
    }
    return rows;
  }

  bool skips_parts(PartSkips choice) const {
    // A part that skips a step saves a third of it, testing for that costs every step a twelfth.
    constexpr double kSkipsFrom = 0.25;
    if (choice != PartSkips::kIfMany) return choice == PartSkips::kAlways;
    return share_of_single_parts() > kSkipsFrom;
  }

  double share_of_single_parts() const {
    std::vector<std::int64_t> uses(schedule_.lists.size());
    for (const WorkItem& item : schedule_.items) {
      if (takes_(item)) ++uses[static_cast<std::size_t>(item.list)];
    }
    double single = 0;
    double all = 0;
    for (std::size_t list = 0; list < uses.size(); ++list) {
      const auto steps = schedule_.list(static_cast<std::int32_t>(list));
      const auto count = std::ranges::count_if(
          steps, [](const TileEntry& step) { return step.live_parts() != Step::kBothParts; });
      single += static_cast<double>(count) * static_cast<double>(uses[list]);
      all += static_cast<double>(steps.size()) * static_cast<double>(uses[list]);
    }
    return all == 0 ? 0 : single / all;
  }

  void add_item(const WorkItem& item, TokenBases bases) {
    const TilePlan& plan = schedule_.plan_of(item);
    const int heads = plan.packed ? group_size_ : 1;
    demand(plan.outer_part == kPartRows / heads && plan.outer_tile == 2 * plan.outer_part &&
               item.num_heads == heads,
           "attention: a plan of ", plan.outer_tile, " queries of ", item.num_heads,
           " heads an item is not one of the CUDA kernels; plan with the tiling of their table");
    const SequenceShape& shape = schedule_.shape.sequences[static_cast<std::size_t>(item.sequence)];
    const unsigned present = item.size > plan.outer_part ? Step::kBothParts : 1U;
    const StepList& list = list_of(item.list, shape.kv_len, present, plan.packed);
    (plan.packed ? image_.has_packed : image_.has_separate) = true;
    Step first{};
    if (list.num_partial + list.num_full > 0) {
      first = image_.steps[static_cast<std::size_t>(list.begin)];
    }
    image_.items.push_back(
        {item.begin, item.size, item.q_head, item.sequence, list.begin, list.num_partial,
         list.num_full, 2 * (item.q_head / group_size_) + (plan.packed ? 1 : 0), bases.q, bases.kv,
         static_cast<std::int32_t>(shape.q_offset), static_cast<std::int32_t>(shape.kv_len), first,
         device::Item::kUncut, 0});
  }

  const StepList& list_of(std::int32_t index, std::int64_t kv_len, unsigned present, bool packed) {
    StepList& known = lists_[static_cast<std::size_t>(index)];
    if (known.begin >= 0) return known;
    const ListContext context{schedule_.lists[static_cast<std::size_t>(index)], kv_len, present,
                              packed};
    const auto [place, is_new] = by_context_.try_emplace(context);
    if (is_new) place->second = add_steps(context);
    return known = place->second;
  }

  StepList add_steps(const ListContext& context) {
    StepList list;
    list.begin = static_cast<std::int32_t>(image_.steps.size());
    const auto entries =
        std::span(schedule_.entries)
            .subspan(static_cast<std::size_t>(context.range.begin),
                     static_cast<std::size_t>(context.range.end - context.range.begin));
    full_.clear();
    for (const TileEntry& entry : entries) {
      const Step step = make_step(entry, context);
      const bool is_whole = (step.flags >> Step::kHalvesShift & kHalves) ==
                                halves_of(Step::kBothParts, image_.keys) &&
                            (step.flags & Step::kHasBitmap) == 0;
      (is_whole ? full_ : image_.steps).push_back(step);
    }
    list.num_full = static_cast<std::int32_t>(full_.size());
    image_.steps.insert(image_.steps.end(), full_.begin(), full_.end());
    list.num_partial = static_cast<std::int32_t>(image_.steps.size()) - list.begin - list.num_full;
    return list;
  }

  Step make_step(const TileEntry& entry, const ListContext& context) {
    const unsigned live = entry.live_parts() & context.present;
    Step step{entry.begin, live};
    if (entry.is_gathered()) {
      step.begin = static_cast<std::int32_t>(image_.sub_tiles.size());
      const int boxes = add_boxes(entry, context.kv_len);
      step.flags |= Step::kIsGathered | static_cast<unsigned>(boxes - 1) << Step::kBoxesShift;
    }
    const Bitmap bitmap = bitmap_of(entry, live, context);
    // A part that an item has not may be computed like the other one.
    const unsigned computed = live == context.present ? Step::kBothParts : live;
    step.flags |= (bitmap.halves & halves_of(computed, image_.keys)) << Step::kHalvesShift;
    if (bitmap.index >= 0) {
      step.flags |= Step::kHasBitmap | static_cast<unsigned>(bitmap.index) << Step::kBitmapShift;
    }
    return step;
  }

  // Those that begin in the sequence: behind its end there may be no page.
  int add_boxes(const TileEntry& entry, std::int64_t kv_len) {
    int boxes = 0;
    for (const std::int32_t begin : schedule_.sub_tiles_of(entry)) {
      for (int row = 0; row < entry.sub_tile() && begin + row < kv_len; row += image_.box_rows) {
        image_.sub_tiles.push_back(begin + row);
        ++boxes;
      }
    }
    return boxes;
  }

  // The bitmap that a step needs, none if it is full. A full step needs one where it reaches beyond
  // the sequence, or for a part that has it not and does not skip it.
  Bitmap bitmap_of(const TileEntry& entry, unsigned live, const ListContext& context) {
    if (!entry.is_full()) {
      const auto [place, is_new] = own_bitmaps_.try_emplace({entry.bitmap(), context.packed});
      if (is_new) place->second = add_bitmap(entry.bitmap(), context.packed);
      return place->second;
    }
    std::int64_t columns = image_.keys;
    if (!entry.is_gathered()) columns = std::min(columns, context.kv_len - entry.begin);
    const unsigned parts = image_.skips_parts || live == context.present ? Step::kBothParts : live;
    if (columns == image_.keys && parts == Step::kBothParts) return {};
    const auto [place, is_new] = made_bitmaps_.try_emplace({parts, columns});
    if (is_new) place->second = add_rectangle(parts, static_cast<int>(columns));
    return place->second;
  }

  std::int32_t next_bitmap() const {
    constexpr std::size_t kMost = std::size_t{1} << (32 - Step::kBitmapShift);
    const std::size_t count =
        image_.bitmaps.size() / static_cast<std::size_t>(device::fragment_words(image_.keys));
    check(count < kMost, "attention: a plan has more than 2^20 distinct partial tiles");
    return static_cast<std::int32_t>(count);
  }

  Bitmap add_bitmap(std::int32_t bitmap, bool packed) {
    const std::int32_t index = next_bitmap();
    const QueriesOfRows& queries = packed ? packed_queries_ : queries_;
    append_fragments(schedule_.bitmaps.tile(bitmap), schedule_.bitmaps.words_per_row(), queries,
                     image_.bitmaps);
    unsigned halves = 0;
    const int part_queries = packed ? kPartRows / group_size_ : kPartRows;
    for (int query = 0; query < 2 * part_queries; ++query) {
      const auto words = schedule_.bitmaps.row(bitmap, query);
      for (std::size_t h = 0; h < words.size(); ++h) {
        if (words[h] != 0) halves |= 1U << (2 * (query / part_queries) + static_cast<int>(h));
      }
    }
    return {index, halves};
  }

  // The first `columns` columns of some parts.
  Bitmap add_rectangle(unsigned parts, int columns) {
    const std::int32_t index = next_bitmap();
    std::vector<std::uint64_t> row;
    for (int c = 0; c < image_.keys; c += device::kWordColumns) {
      const int count = std::clamp(columns - c, 0, device::kWordColumns);
      row.push_back(count == device::kWordColumns ? ~std::uint64_t{0}
                                                  : (std::uint64_t{1} << count) - 1);
    }
    std::array<int, kTileRows> rows{};
    for (int r = 0; r < kTileRows; ++r) {
      rows[static_cast<std::size_t>(r)] = (parts >> (r / kPartRows) & 1U) != 0 ? 0 : -1;
    }
    append_fragments(row, static_cast<int>(row.size()), rows, image_.bitmaps);
    return {index, halves_of(parts, columns)};
  }

  // Longest first over many heads and sequences, neighbours in time share no keys, and all keys
  // come from memory again and again. So a few heads at a time; what is short stays for the end,
  // where it fills the gaps that the last long items leave.
  void share_keys() {
    constexpr std::size_t kHeadsAtATime = 32;
    std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> heads;  // (sequence, kv head)
    std::vector<std::vector<device::Item>> sections;
    std::vector<device::Item> rest;
    double cost = 0;
    for (const device::Item& item : image_.items) cost += cost_of_item(item);
    const double mean = cost / static_cast<double>(image_.items.size());
    for (const device::Item& item : image_.items) {
      if (cost_of_item(item) < mean / 2) {
        rest.push_back(item);
        continue;
      }
      const auto [head, is_new] =
          heads.try_emplace({item.sequence, item.kv_head_and_packing / 2}, heads.size());
      const std::size_t section = head->second / kHeadsAtATime;
      if (section == sections.size()) sections.emplace_back();
      sections[section].push_back(item);
    }
    if (sections.size() < 2) return;
    image_.items.clear();
    for (const auto& section : sections) {
      image_.items.insert(image_.items.end(), section.begin(), section.end());
    }
    image_.items.insert(image_.items.end(), rest.begin(), rest.end());
  }
  double cost_of_item(const device::Item& item) const {
    const TileCosts& costs = schedule_.tiling.costs;
    return static_cast<double>(costs.item) + item.num_full +
           static_cast<double>(costs.partial) * item.num_partial;
  }

  const Schedule& schedule_;
  FunctionRef<bool(const WorkItem&)> takes_;
  bool keeps_order_;
  int group_size_;
  QueriesOfRows queries_;
  QueriesOfRows packed_queries_;  // where rows are (query, head) pairs of a group
  ScheduleImage image_;
  std::vector<StepList> lists_;  // of each list of the schedule, once known
  std::vector<Step> full_;       // of the present list
  std::map<ListContext, StepList> by_context_;
  std::map<std::pair<std::int32_t, bool>, Bitmap> own_bitmaps_;       // (bitmap, packed)
  std::map<std::pair<unsigned, std::int64_t>, Bitmap> made_bitmaps_;  // (parts, columns)
};

}  // namespace

std::vector<TokenBases> token_bases(const AttentionShape& shape) {
  std::vector<TokenBases> bases;
  bases.reserve(shape.sequences.size());
  std::int64_t q = 0;
  std::int64_t kv = 0;
  for (const SequenceShape& sequence : shape.sequences) {
    bases.push_back({static_cast<std::int32_t>(q), static_cast<std::int32_t>(kv)});
    q += sequence.q_len;
    kv += sequence.kv_len;
    check(q < kMaxTokens && kv < kMaxTokens,
          "attention: a batch on a GPU must have less than 2^31 tokens");
  }
  return bases;
}

void ScheduleImage::clear() {
  items.clear();
  steps.clear();
  sub_tiles.clear();
  bitmaps.clear();
  has_packed = has_separate = false;
}

QueriesOfRows queries_of_rows(int heads) {
  const int part_queries = kPartRows / heads;
  QueriesOfRows result{};
  for (int row = 0; row < kTileRows; ++row) {
    const int in_part = row % kPartRows;
    const bool is_used = in_part < part_queries * heads;
    result[static_cast<std::size_t>(row)] =
        is_used ? row / kPartRows * part_queries + in_part / heads : -1;
  }
  return result;
}

void append_fragments(std::span<const std::uint64_t> words, int words_per_row,
                      std::span<const int> rows, std::vector<std::uint32_t>& fragments) {
  const auto num_words = static_cast<std::size_t>(words_per_row);
  const std::size_t first = fragments.size();
  fragments.resize(first + static_cast<std::size_t>(device::kTileThreads) * num_words);
  std::array<std::uint32_t, 4 * kMostRowWords> spread{};  // of a row: [pair, word]
  int spread_row = -1;
  bool is_dead = true;
  // Row by row, since most rows of a tile of few queries have no bit and heads share one.
  for (std::size_t tile_row = 0; tile_row < rows.size(); ++tile_row) {
    if (rows[tile_row] < 0) continue;
    if (rows[tile_row] != spread_row) {
      spread_row = rows[tile_row];
      const auto row = words.subspan(static_cast<std::size_t>(spread_row) * num_words, num_words);
      is_dead = std::ranges::all_of(row, [](std::uint64_t word) { return word == 0; });
      for (std::size_t i = 0; !is_dead && i < 4 * num_words; ++i) {
        spread[i] = spread_pairs(row[i % num_words], static_cast<int>(i / num_words));
      }
    }
    if (is_dead) continue;
    const int thread = first_thread_of(static_cast<int>(tile_row));
    const int shift = device::fragment_row(thread, 0) == static_cast<int>(tile_row) ? 0 : 2;
    std::uint32_t* const to =
        fragments.data() + first + static_cast<std::size_t>(thread) * num_words;
    for (std::size_t i = 0; i < 4 * num_words; ++i) to[i] |= spread[i] << shift;
  }
}

void check_image_form(const Schedule& schedule, int head_dim, Sweep sweep) {
  const Tiling offered = gpu_tiling(head_dim, sweep);
  const Tiling& tiling = schedule.tiling;
  demand(schedule.sweep == sweep && tiling.outer_tile == offered.outer_tile &&
             tiling.outer_part == offered.outer_part && tiling.inner_tile == offered.inner_tile,
         "attention: the plan has tiles of ", tiling.outer_tile, "/", tiling.outer_part, " x ",
         tiling.inner_tile, ", the CUDA kernels for head_dim ", head_dim, " take ",
         offered.outer_tile, "/", offered.outer_part, " x ", offered.inner_tile,
         "; plan with the tiling of their table");
}

void check_gathers(const Schedule& schedule) {
  for (const TileEntry& entry : schedule.entries) {
    demand(!entry.is_gathered() || entry.sub_tile() % 16 == 0,
           "attention: the CUDA kernels gather 16, 32 or 64 rows at a time (",
           int{entry.sub_tile()}, ")");
  }
}

ScheduleImage make_schedule_image(const Schedule& schedule, int head_dim) {
  const auto every = [](const WorkItem& /*item*/) { return true; };
  return make_schedule_image(schedule, head_dim, {every});
}

ScheduleImage make_schedule_image(const Schedule& schedule, int head_dim, const ImageChoice& choice,
                                  ScheduleImage memory) {
  check_image_form(schedule, head_dim, Sweep::kRows);
  check_gathers(schedule);
  return ImageMaker(schedule, head_dim, choice, std::move(memory)).make();
}

}  // namespace perpend
