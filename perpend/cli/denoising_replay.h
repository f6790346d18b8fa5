#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "perpend/decode/recorded_step.h"
#include "perpend/decode/text_generator.h"
#include "perpend/io/font_file.h"

namespace perpend {

// An answer of a diffusion model that is filled again before one's eyes: an animated PNG with a
// frame before the first step, one after each and a last one that is plain. A token stands where it
// stands in the answer: dim dots while nothing is known of it, dim the model's guess, in a colour
// from red (unsure) to green as long as its block is open, then plainly.
class DenoisingReplay {
 public:
  // Throws as FontFile does, and InvalidArgument for a path that ends neither in .png nor .apng.
  DenoisingReplay(std::string path, const std::string& font);

  void add(const CanvasStep& step) { steps_.emplace_back(step); }
  // `prompt` is what was asked, shown above. Throws IoError.
  void write(std::string_view prompt, const GenerateResult& result,
             const Tokenizer& tokenizer) const;

 private:
  std::string path_;
  FontFile font_;
  std::vector<RecordedStep> steps_;
};

}  // namespace perpend
