#include "perpend/cli/denoising_view.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "perpend/cli/confidence_color.h"

namespace perpend {
namespace {

constexpr std::string_view kPlain = "\x1b[0m";
constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kMasked = "\xC2\xB7";  // a middle dot

std::string style_of(const FilledToken& token) {
  return fmt::format("\x1b[38;5;{}m", confidence_color(token.confidence).terminal);
}

// Lines of at most `columns` characters, each with the colours that hold in it.
class Lines {
 public:
  explicit Lines(int columns) : columns_(columns) {}

  void add(std::string_view text, std::string_view style) {
    for (std::size_t begin = 0; begin < text.size();) {
      std::size_t end = begin + 1;
      while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) ++end;
      if (lines_.empty() || used_ == columns_) {
        lines_.emplace_back();
        used_ = 0;
      }
      lines_.back() += style;
      lines_.back() += text.substr(begin, end - begin);
      if (!style.empty()) lines_.back() += kPlain;
      ++used_;
      begin = end;
    }
  }
  const std::vector<std::string>& all() const { return lines_; }

 private:
  int columns_;
  int used_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace

DenoisingView::Size terminal_size() {
  if (isatty(STDOUT_FILENO) == 0) return {};
  winsize window{};
  // Some terminals do not know their size.
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
  return known ? DenoisingView::Size{window.ws_col, window.ws_row} : DenoisingView::Size{80, 24};
}

std::string DenoisingView::text_of(std::int32_t token) const {
  std::string line;
  for (const char letter : tokenizer_.decode({token}, false)) {
    if (letter == '\n') {
      line += "\xE2\x8F\x8E";  // U+23CE, the sign of a return key
    } else {
      line += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
    }
  }
  return line;
}

void DenoisingView::show(const CanvasStep& step, std::int64_t prompt_tokens) {
  ++num_steps_;
  for (const FilledToken& token : step.filled) filled_[token.position] = token;
  guesses_.clear();
  for (const FilledToken& token : step.guesses) guesses_[token.position] = token;
  if (size_.columns == 0) {
    print_line(step);
  } else {
    draw(step, prompt_tokens);
  }
}

void DenoisingView::print_line(const CanvasStep& step) {
  out_ << fmt::format("step {}: {} rows {}-{} of {} keys:", num_steps_,
                      step.denoises ? "denoise" : "context", step.rows.begin, step.rows.end,
                      step.num_keys);
  for (const FilledToken& token : step.filled) {
    out_ << fmt::format(" {}={} ({:.2f})", token.position, text_of(token.chosen.token),
                        token.confidence);
  }
  out_ << "\n";
}

void DenoisingView::draw(const CanvasStep& step, std::int64_t prompt_tokens) {
  Lines lines(size_.columns);
  for (std::int64_t position = prompt_tokens; position < step.block.end; ++position) {
    if (const auto found = filled_.find(position); found != filled_.end()) {
      const bool open = step.block.contains(position);
      lines.add(text_of(found->second.chosen.token), open ? style_of(found->second) : "");
    } else if (const auto guess = guesses_.find(position); guess != guesses_.end()) {
      lines.add(text_of(guess->second.chosen.token), kDim);
    } else {
      lines.add(kMasked, kDim);
    }
  }
  finish();
  // What left the screen could not be erased.
  const auto& all = lines.all();
  const auto most = static_cast<std::size_t>(std::max(1, size_.rows - 2));
  for (std::size_t i = all.size() > most ? all.size() - most : 0; i < all.size(); ++i) {
    out_ << all[i] << "\n";
    ++num_drawn_;
  }
  out_ << std::flush;
}

void DenoisingView::finish() {
  if (num_drawn_ == 0) return;
  out_ << fmt::format("\x1b[{}A\r\x1b[J", num_drawn_);
  num_drawn_ = 0;
}

}  // namespace perpend
