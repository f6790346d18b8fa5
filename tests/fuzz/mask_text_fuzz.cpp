#include "perpend/core/concat.h"
#include "perpend/mask/bound_mask.h"
#include "perpend/mask/layer_masks.h"
#include "perpend/mask/mask.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using namespace perpend;

constexpr std::int64_t kLength = 12;

// The laws that hold for every mask: its text reads back, its answers and words agree with its
// pairs.
void check_laws(const Mask& mask) {
  if (!(parse_mask(concat(mask)) == mask)) bug("the text of a mask reads back as another");
  const BoundMask bound(mask);
  bool all = true;
  bool none = true;
  for (std::int64_t q = 0; q < kLength; ++q) {
    const std::uint64_t word = bound.word(Sweep::kRows, q, 0);
    for (std::int64_t k = 0; k < kLength; ++k) {
      const bool visible = mask.visible(q, k);
      if (visible != ((word >> k & 1) != 0)) bug("word and visible disagree");
      all = all && visible;
      none = none && !visible;
    }
  }
  const Answer answer = bound.answer({0, kLength}, {0, kLength});
  if ((answer == Answer::kAll && !all) || (answer == Answer::kNone && !none)) {
    bug("an answer contradicts a pair");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = text_of(data, size);
  refuse_or_use([&] { check_laws(parse_mask(text)); });
  return refuse_or_use([&] { parse_layer_masks(text, 30); });
}
