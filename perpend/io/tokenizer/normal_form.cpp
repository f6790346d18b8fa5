#include "perpend/io/tokenizer/normal_form.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include <utf8proc.h>

#include "perpend/core/error.h"
#include "perpend/io/tokenizer/text_rewriter.h"

namespace perpend {
namespace {

// A character of the result and how many of the old text it stands for: 0 when it came along with
// the one before.
struct Rewritten {
  char32_t code;
  std::size_t num_old;
};

utf8proc_int16_t combining_class(char32_t c) {
  return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
}

void decompose(char32_t c, bool compatible, std::vector<Rewritten>& out) {
  std::array<utf8proc_int32_t, 32> codes{};
  int boundary = 0;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0));
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), codes.data(),
                                             codes.size(), options, &boundary);
  if (count < 1 || static_cast<std::size_t>(count) > codes.size()) bug("utf8proc_decompose_char");
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    out.push_back({static_cast<char32_t>(codes[i]), i == 0 ? std::size_t{1} : 0});
  }
}

// Orders each run of combining marks by class.
void order_marks(std::vector<Rewritten>& pieces) {
  const auto is_starter = [](const Rewritten& p) { return combining_class(p.code) == 0; };
  for (auto begin = pieces.begin(); begin != pieces.end();) {
    begin = std::find_if_not(begin, pieces.end(), is_starter);
    const auto end = std::find_if(begin, pieces.end(), is_starter);
    std::stable_sort(begin, end, [](const Rewritten& a, const Rewritten& b) {
      return combining_class(a.code) < combining_class(b.code);
    });
    begin = end;
  }
}

std::optional<char32_t> composition(char32_t first, char32_t second) {
  std::array<utf8proc_int32_t, 2> pair{static_cast<utf8proc_int32_t>(first),
                                       static_cast<utf8proc_int32_t>(second)};
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE);
  if (utf8proc_normalize_utf32(pair.data(), 2, options) != 1) return std::nullopt;
  return static_cast<char32_t>(pair[0]);
}

// Joins each starter with the marks and the starter that follow it, where a composition exists and
// nothing of the same or a higher class lies between.
std::vector<Rewritten> compose(const std::vector<Rewritten>& pieces) {
  std::vector<Rewritten> out;
  std::optional<std::size_t> starter;  // in out
  for (const Rewritten& piece : pieces) {
    const auto mark = combining_class(piece.code);
    if (starter) {
      const bool adjacent = *starter + 1 == out.size();
      if (adjacent || combining_class(out.back().code) < mark) {
        if (const auto joined = composition(out[*starter].code, piece.code)) {
          out[*starter] = {*joined, out[*starter].num_old + piece.num_old};
          continue;
        }
      }
    }
    if (mark == 0) starter = out.size();
    out.push_back(piece);
  }
  return out;
}

// Characters below U+0300 are composed and no marks.
bool is_normal(std::string_view text, NormalForm form) {
  const unsigned limit = form.composed && !form.compatible ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(),
                     [limit](char byte) { return static_cast<unsigned char>(byte) < limit; });
}

}  // namespace

void normalize(AlignedText& text, NormalForm form) {
  if (is_normal(text.text(), form)) return;
  std::vector<Rewritten> pieces;
  for (std::string_view rest = text.text(); !rest.empty();) {
    const Utf8Character character = read_utf8(rest);
    decompose(character.code, form.compatible, pieces);
    rest.remove_prefix(character.size);
  }
  order_marks(pieces);
  if (form.composed) pieces = compose(pieces);
  TextRewriter rewriter(text);
  for (const Rewritten& piece : pieces) {
    if (piece.num_old == 0) {
      rewriter.insert(piece.code);
    } else {
      rewriter.replace(piece.code);
      rewriter.skip(piece.num_old - 1);
    }
  }
  rewriter.finish();
}

}  // namespace perpend
