#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace perpend {

// Sequences of 64-bit words, each stored once and numbered from 0 in the order in which they came.
// One flat table and one pool: adding what is known allocates nothing.
class WordDictionary {
 public:
  struct Place {
    std::int32_t index = 0;
    bool is_new = false;
  };
  // Where `words` are, added when new.
  Place add(std::span<const std::uint64_t> words);

  // Forgets all sequences, but keeps the memory; takes as long as adding them did.
  void clear();

  std::int32_t count() const { return static_cast<std::int32_t>(ends_.size()); }
  std::span<const std::uint64_t> operator[](std::int32_t index) const {
    const auto i = static_cast<std::size_t>(index);
    const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::span(words_).subspan(begin, ends_[i] - begin);
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t index = -1;
  };
  void grow();

  std::vector<std::uint64_t> words_;
  std::vector<std::size_t> ends_;  // where each sequence ends in words_
  std::vector<Slot> slots_;        // open addressing; a power of two, at most half full
};

inline std::span<const std::uint64_t> as_words(std::span<const std::int64_t> key) {
  return {reinterpret_cast<const std::uint64_t*>(key.data()), key.size()};
}

}  // namespace perpend
