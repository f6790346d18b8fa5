#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>

#include "perpend/decode/diffusion_options.h"
#include "perpend/io/tokenizer/tokenizer.h"

namespace perpend {

// Draws the answer of a diffusion model while it is filled. On a terminal the same lines are drawn
// again and again: tokens of the open block in a colour that says how sure the model was, from red
// to green, dim what it would have for masked ones, dim dots where it was not asked, and what is
// final plainly. Elsewhere each step is one line.
class DenoisingView {
 public:
  // Of the terminal; no columns: it is none. Borrows both.
  struct Size {
    int columns = 0;
    int rows = 0;
  };
  DenoisingView(const Tokenizer& tokenizer, std::ostream& out, Size size)
      : tokenizer_(tokenizer), out_(out), size_(size) {}
  ~DenoisingView() { finish(); }
  DenoisingView(const DenoisingView&) = delete;
  DenoisingView& operator=(const DenoisingView&) = delete;

  // `prompt_tokens` stand before the answer and are not drawn.
  void show(const CanvasStep& step, std::int64_t prompt_tokens);
  // Erases what was drawn.
  void finish();

 private:
  // Text of one token on one line.
  std::string text_of(std::int32_t token) const;
  void print_line(const CanvasStep& step);
  void draw(const CanvasStep& step, std::int64_t prompt_tokens);

  const Tokenizer& tokenizer_;
  std::ostream& out_;
  Size size_;
  std::map<std::int64_t, FilledToken> filled_;   // by position
  std::map<std::int64_t, FilledToken> guesses_;  // of the last step
  std::int64_t num_steps_ = 0;
  int num_drawn_ = 0;  // lines
};

// Of standard output.
DenoisingView::Size terminal_size();

}  // namespace perpend
