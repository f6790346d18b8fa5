#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "perpend/core/range.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// What a list is made from, piece by piece along the inner axis, but for where its pieces lie: two
// lists of one name have the same steps relative to their anchors, the begins of the pieces.
class ListName {
 public:
  enum class Kind : std::uint8_t { kEnd, kLooseCell, kFull, kUndecided };

  // Steps depend on where pieces begin modulo `period`; pieces further than two cells apart do not
  // meet.
  ListName(std::int64_t period, std::int64_t cell) : period_(period), near_(2 * cell) {}

  // `classes` tells masks apart that do not share them; `origin`: from which periods are counted.
  void start(std::int32_t classes, std::int64_t rows, std::int64_t origin);
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

// The steps of lists that were made, with distances from their anchors instead of positions: a list
// of the same name need not be made again. One list is present at a time.
class ListTemplates {
 public:
  // A step or sub-tile may begin up to `reach` positions before its anchor.
  ListTemplates(ListName name, std::int64_t reach)
      : name_(std::move(name)), reach_(static_cast<std::int32_t>(reach)) {}

  // Whether lists of one name have been frequent enough to look for more.
  bool is_worthwhile() const { return num_new_ < kFewLists + num_known_; }
  // To be filled before find().
  ListName& name() { return name_; }
  // Whether a list of the present name is kept.
  bool find();
  // The present list has no name: keep() does nothing.
  void skip() { present_ = -1; }
  // Keeps the present list's own steps, `sub_tiles` being those that gathered ones name.
  void keep(std::span<const TileEntry> partial, std::span<const TileEntry> full,
            std::span<const std::int32_t> sub_tiles);
  void clear();

  // Of the present list, which is kept.
  bool has_full() const { return kept().first_full != kept().end; }
  // Inner position of the first full step, of its first sub-tile when gathered.
  std::int32_t first_full() const {
    return position(places_[static_cast<std::size_t>(
        steps_[static_cast<std::size_t>(kept().first_full)].place)]);
  }
  void write_partial(std::vector<TileEntry>& entries, std::vector<std::int32_t>& sub_tiles) const {
    write(kept().first, kept().first_full, entries, sub_tiles);
  }
  void write_full(std::vector<TileEntry>& entries, std::vector<std::int32_t>& sub_tiles) const {
    write(kept().first_full, kept().end, entries, sub_tiles);
  }

 private:
  static constexpr std::int64_t kFewLists = 128;

  struct Template {
    std::int32_t first = -1;  // step, partial ones first; -1: not kept
    std::int32_t first_full = 0;
    std::int32_t end = 0;
  };
  struct Place {
    std::int32_t anchor = 0;
    std::int32_t offset = 0;
  };
  struct Step {
    TileEntry entry;
    std::int32_t place = 0;  // the first of one, or of one for each sub-tile
  };

  const Template& kept() const { return templates_[static_cast<std::size_t>(present_)]; }
  std::int32_t position(const Place& place) const {
    return name_.anchors()[static_cast<std::size_t>(place.anchor)] + place.offset;
  }
  void keep_place(std::int32_t position);
  void write(std::int32_t first, std::int32_t end, std::vector<TileEntry>& entries,
             std::vector<std::int32_t>& sub_tiles) const;

  ListName name_;
  std::int32_t reach_;
  std::int32_t present_ = -1;
  WordDictionary keys_;
  std::vector<Template> templates_;  // of each key
  std::vector<Step> steps_;
  std::vector<Place> places_;
  std::int64_t num_new_ = 0;
  std::int64_t num_known_ = 0;
};

}  // namespace perpend
