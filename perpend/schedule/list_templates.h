#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/schedule/cost.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// What the lists of neighbouring tiles are made from, piece by piece along the inner axis, but for
// where its pieces lie: lists of one name have the same steps relative to their anchors, the begins
// of the pieces.
class ListName {
 public:
  enum class Kind : std::uint8_t { kEnd, kLooseCell, kFull, kUndecided };

  // Steps depend on where pieces begin modulo `period`; pieces further than two cells apart do not
  // meet.
  ListName(std::int64_t period, std::int64_t cell) : period_(period), near_(2 * cell) {}

  // `classes` tells masks apart that do not share them; `origin`: from which periods are counted.
  void start(std::int32_t classes, std::span<const Range> tiles, std::int64_t origin);
  void add(Range inner, Kind kind, std::uint8_t parts = 0);
  // Where something ends that is no piece: kEnd.
  void add_end(std::int64_t position);

  // More may be appended: what else tells one piece from another.
  std::vector<std::int64_t>& words() { return words_; }
  const std::vector<std::int64_t>& words() const { return words_; }
  const std::vector<std::int32_t>& anchors() const { return anchors_; }

 private:
  void add_anchor(std::int64_t position);

  std::int64_t period_;
  std::int64_t near_;
  std::int64_t origin_ = 0;
  std::int64_t end_ = 0;  // of the last piece
  std::vector<std::int64_t> words_;
  std::vector<std::int32_t> anchors_;
};

// The steps of lists that were made, with distances from their anchors instead of positions: lists
// of the same name need not be made again. One name is present at a time, that of one list or of
// those of neighbouring tiles.
class ListTemplates {
 public:
  // A step or sub-tile may begin up to `reach` positions before its anchor. As long as no name
  // comes again, `few` are tried.
  ListTemplates(ListName name, std::int64_t reach, std::int64_t few)
      : name_(std::move(name)), reach_(static_cast<std::int32_t>(reach)), few_(few) {}

  // Whether lists of one name have been frequent enough to look for more, and steps of lists that
  // are kept to keep more.
  bool is_worthwhile() const {
    constexpr std::size_t kFewSteps = 4096;
    return num_new_ < few_ + num_known_ && steps_.size() < kFewSteps + num_written_;
  }
  // Names that were new.
  std::int64_t num_new() const { return num_new_; }
  // To be filled before find().
  ListName& name() { return name_; }
  // Whether the `num_lists` lists of the present name are kept.
  bool find(std::size_t num_lists);
  // The present lists have no name: keep() does nothing.
  void skip() { present_ = -1; }
  // Keeps the own steps of the next of the present lists, `sub_tiles` being those that gathered
  // ones name.
  void keep(std::span<const TileEntry> partial, std::span<const TileEntry> full,
            const StepCounts& counts, std::span<const std::int32_t> sub_tiles);
  void clear();

  // Writes the own steps of the present list `index`, which is kept, and returns what they count.
  const StepCounts& write(std::size_t index, std::vector<TileEntry>& partial,
                          std::vector<TileEntry>& full, std::vector<std::int32_t>& sub_tiles);

 private:
  struct List {
    std::size_t first = 0;  // step, partial ones first
    std::size_t first_full = 0;
    std::size_t end = 0;
    std::size_t first_place = 0;  // of one a step, or of one for each sub-tile
    StepCounts counts;
  };
  struct Template {
    std::size_t first = 0;  // list
    std::size_t num_lists = 0;
  };
  struct Place {
    std::int32_t anchor = 0;
    std::int32_t offset = 0;
  };

  void keep_place(std::int32_t position);
  const Place* write(std::span<const TileEntry> steps, const Place* place,
                     std::vector<TileEntry>& entries, std::vector<std::int32_t>& sub_tiles) const;

  ListName name_;
  std::int32_t reach_;
  std::int64_t few_;
  std::int32_t present_ = -1;
  WordDictionary keys_;
  std::vector<Template> templates_;  // of each key
  std::vector<List> lists_;
  std::vector<TileEntry> steps_;
  std::vector<Place> places_;
  std::int64_t num_new_ = 0;
  std::int64_t num_known_ = 0;
  std::size_t num_written_ = 0;  // steps
};

}  // namespace perpend
