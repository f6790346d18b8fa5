#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace perpend {

// Bytes [begin, end) of a text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t size() const { return end - begin; }
};

// A text on its way through normalizers that knows which bytes of the original every character came
// from. Always valid UTF-8.
class AlignedText {
 public:
  // The part `range` of `original`, unchanged. With `tracked` false origins are forgotten at the
  // first change, for callers that want ids only.
  AlignedText(std::string_view original, TextRange range, bool tracked)
      : text_(original.substr(range.begin, range.size())),
        shift_(range.begin),
        unchanged_(true),
        tracked_(tracked) {}
  // Empty, and tracked as `other` is.
  static AlignedText empty_like(const AlignedText& other) { return AlignedText(other.tracked_); }

  std::string_view text() const { return text_; }
  bool empty() const { return text_.empty(); }
  AlignedText slice(TextRange range) const;

  // Bytes of the original that the characters touching `range`, which is not empty, came from;
  // meaningless for a changed text that is not tracked.
  TextRange origin(TextRange range) const;

  // Appends `characters`, all from one place of the original.
  void append(std::string_view characters, TextRange origin);
  // Appends a part of another text.
  void append(const AlignedText& from, TextRange range);
  // Puts `characters` first; they share the origin of the first character. No-op when empty.
  void prepend(std::string_view characters);

 private:
  explicit AlignedText(bool tracked) : tracked_(tracked) {}

  std::string text_;
  std::vector<TextRange> origins_;  // one a byte, if tracked and changed
  std::size_t shift_ = 0;           // where text_ begins in the original, while unchanged
  bool unchanged_ = false;
  bool tracked_ = false;
};

// A text cut into words, in order; what lies between them is dropped.
struct SplitText {
  explicit SplitText(AlignedText whole) : text(std::move(whole)), words{{0, text.text().size()}} {}

  std::string_view word(std::size_t i) const {
    return text.text().substr(words[i].begin, words[i].size());
  }

  AlignedText text;
  std::vector<TextRange> words;
};

}  // namespace perpend
