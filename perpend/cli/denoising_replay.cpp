#include "perpend/cli/denoising_replay.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "perpend/cli/confidence_color.h"
#include "perpend/io/animated_png.h"
#include "perpend/io/text_layout.h"
#include "perpend/io/tokenizer/streaming_detokenizer.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

constexpr int kLetterPixels = 16;
constexpr int kColumns = 80;
constexpr int kMargin = 16;
constexpr int kMaxPromptLines = 3;
constexpr int kFirstMs = 600;
constexpr int kStepMs = 160;
constexpr int kLastMs = 4000;

constexpr Image::Color kPaper = {24, 24, 28};
constexpr Image::Color kFinalInk = {232, 232, 232};
constexpr Image::Color kDimInk = {112, 112, 122};
constexpr Image::Color kPromptInk = {140, 172, 214};
constexpr char32_t kMaskSign = 0xB7;      // a middle dot
constexpr char32_t kLineSign = 0x23CE;    // the sign of a return key
constexpr char32_t kLegendSign = 0x25A0;  // a square

char32_t code_of(std::string_view character) { return read_utf8(character).code; }

// What each token adds to the text of the answer: whole characters.
std::vector<std::string> pieces_of(const GenerateResult& result, const Tokenizer& tokenizer) {
  StreamingDetokenizer detokenizer(tokenizer);
  std::vector<std::string> pieces;
  for (const Sample& sample : result.samples) {
    pieces.push_back(detokenizer.push(sample.chosen.token));
  }
  if (!pieces.empty()) pieces.back() += detokenizer.finish();
  return pieces;
}

// Where everything stands, the same in all frames.
class Page {
 public:
  Page(const FontFile& font, std::string_view prompt, const std::vector<std::string>& pieces)
      : font_(font), prompt_(wrapped_lines(prompt, kColumns)), slots_(pieces.size()) {
    if (std::ssize(prompt_) > kMaxPromptLines) {
      prompt_.resize(kMaxPromptLines);
      prompt_.back() = "...";
    }
    first_line_ = static_cast<int>(prompt_.size()) + 3;
    for (const std::string& piece : pieces) text_ += piece;
    std::size_t slot = 0;
    std::size_t end = pieces.empty() ? 0 : pieces.front().size();
    for (const PlacedCharacter& character : lay_out(text_, kColumns)) {
      const auto begin = static_cast<std::size_t>(character.text.data() - text_.data());
      while (begin >= end) end += pieces[++slot].size();
      slots_[slot].push_back(character);
      num_lines_ = character.line + 1;
    }
  }
  Page(const Page&) = delete;  // places point into text_
  Page& operator=(const Page&) = delete;

  // A page with what does not change but the line above.
  Image blank(std::string_view status) const {
    Image image(kColumns * font_.cell_width() + 2 * kMargin,
                (first_line_ + num_lines_) * font_.cell_height() + 2 * kMargin, kPaper);
    write(status, 0, 0, kDimInk, image);
    constexpr int kSteps = 8;
    constexpr std::string_view kLow = "unsure ";
    constexpr std::string_view kHigh = " sure";
    int column = kColumns - kSteps - static_cast<int>(kLow.size() + kHigh.size());
    column = write(kLow, 0, column, kDimInk, image);
    for (int i = 0; i < kSteps; ++i) {
      const float confidence = static_cast<float>(i) / (kSteps - 1);
      draw(kLegendSign, 0, column++, confidence_color(confidence).picture, image);
    }
    write(kHigh, 0, column, kDimInk, image);
    for (std::size_t i = 0; i < prompt_.size(); ++i) {
      write(prompt_[i], static_cast<int>(i) + 2, 0, kPromptInk, image);
    }
    return image;
  }

  void fill(std::size_t slot, Image::Color color, Image& image) const {
    for (const PlacedCharacter& character : slots_[slot]) {
      draw(code_of(character.text), first_line_ + character.line, character.column, color, image);
    }
  }
  // As much of a guess as the token has room for.
  void guess(std::size_t slot, std::string_view text, Image& image) const {
    for (const PlacedCharacter& cell : slots_[slot]) {
      if (text.empty()) return;
      const Utf8Character letter = read_utf8(text);
      text.remove_prefix(letter.size);
      const char32_t code = letter.code == '\n' ? kLineSign : letter.code;
      draw(code, first_line_ + cell.line, cell.column, kDimInk, image);
    }
  }
  void mask(std::size_t slot, Image& image) const {
    for (const PlacedCharacter& cell : slots_[slot]) {
      for (int i = 0; i < cell.width; ++i) {
        draw(kMaskSign, first_line_ + cell.line, cell.column + i, kDimInk, image);
      }
    }
  }
  std::size_t num_slots() const { return slots_.size(); }

 private:
  void draw(char32_t letter, int line, int column, Image::Color color, Image& image) const {
    if (letter <= ' ') return;
    font_.draw(letter, kMargin + column * font_.cell_width(), kMargin + line * font_.cell_height(),
               color, image);
  }
  // Returns the column behind the text.
  int write(std::string_view text, int line, int column, Image::Color color, Image& image) const {
    for (const PlacedCharacter& character : lay_out(text, kColumns)) {
      draw(code_of(character.text), line, column, color, image);
      column += character.width;
    }
    return column;
  }

  const FontFile& font_;
  std::vector<std::string> prompt_;
  std::string text_;
  std::vector<std::vector<PlacedCharacter>> slots_;  // one a token
  int first_line_ = 0;
  int num_lines_ = 1;
};

// The answer after some of its steps.
class Progress {
 public:
  Progress(const Page& page, const Tokenizer& tokenizer, std::int64_t prompt_tokens)
      : page_(page),
        tokenizer_(tokenizer),
        prompt_tokens_(prompt_tokens),
        confidences_(page.num_slots()) {}

  void add(const RecordedStep& step) {
    for (const FilledToken& token : step.filled) {
      if (const auto slot = slot_of(token)) confidences_[*slot] = token.confidence;
    }
  }
  std::int64_t num_filled() const {
    return std::count_if(confidences_.begin(), confidences_.end(),
                         [](const auto& confidence) { return confidence.has_value(); });
  }

  // `step`: the last one; null before the first and after the end.
  Image draw(std::string_view status, const RecordedStep* step) const {
    Image image = page_.blank(status);
    std::vector<std::optional<std::string>> guesses(confidences_.size());
    if (step != nullptr) {
      for (const FilledToken& token : step->guesses) {
        const auto slot = slot_of(token);
        if (slot) guesses[*slot] = tokenizer_.decode({token.chosen.token}, false);
      }
    }
    for (std::size_t slot = 0; slot < confidences_.size(); ++slot) {
      const std::int64_t position = prompt_tokens_ + static_cast<std::int64_t>(slot);
      const bool open = step != nullptr && step->block.contains(position);
      if (confidences_[slot]) {
        const Image::Color color = confidence_color(*confidences_[slot]).picture;
        page_.fill(slot, open ? color : kFinalInk, image);
      } else if (guesses[slot]) {
        page_.guess(slot, *guesses[slot], image);
      } else {
        page_.mask(slot, image);
      }
    }
    return image;
  }

 private:
  // Nothing for what stands behind the end of the answer.
  std::optional<std::size_t> slot_of(const FilledToken& token) const {
    const auto slot = static_cast<std::size_t>(token.position - prompt_tokens_);
    return slot < confidences_.size() ? std::optional(slot) : std::nullopt;
  }

  const Page& page_;
  const Tokenizer& tokenizer_;
  std::int64_t prompt_tokens_;
  std::vector<std::optional<float>> confidences_;  // of filled tokens
};

}  // namespace

DenoisingReplay::DenoisingReplay(std::string path, const std::string& font)
    : path_(std::move(path)), font_(font, kLetterPixels) {
  check(path_.ends_with(".png") || path_.ends_with(".apng"),
        concat("--replay: expected a path ending in .png or .apng (", path_, ")"));
}

void DenoisingReplay::write(std::string_view prompt, const GenerateResult& result,
                            const Tokenizer& tokenizer) const {
  const Page page(font_, prompt, pieces_of(result, tokenizer));
  Progress progress(page, tokenizer, result.prompt_tokens);
  const auto status = [&](std::size_t num_steps) {
    return fmt::format("step {} of {}, {} of {} tokens", num_steps, steps_.size(),
                       progress.num_filled(), result.samples.size());
  };
  AnimatedPng animation(path_, static_cast<int>(steps_.size()) + 2);
  animation.add(progress.draw(status(0), nullptr), kFirstMs);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    progress.add(steps_[i]);
    animation.add(progress.draw(status(i + 1), &steps_[i]), kStepMs);
  }
  animation.add(progress.draw(status(steps_.size()), nullptr), kLastMs);
  animation.finish();
}

}  // namespace perpend
