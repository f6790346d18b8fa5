#include <vector>

#include "perpend/core/error.h"
#include "perpend/mask/mask_parser.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

constexpr int kMaxDepth = 100;

std::vector<std::int64_t> read_integers(TextReader& reader, std::string_view word,
                                        std::size_t least, std::size_t most) {
  reader.expect('(', concat("after ", word));
  std::vector<std::int64_t> values = {reader.integer()};
  while (values.size() < most && reader.accept(',')) values.push_back(reader.integer());
  if (values.size() < least) reader.fail(concat(word, " needs ", least, " arguments"));
  reader.expect(')', concat("after the arguments of ", word));
  return values;
}

Label read_segments(TextReader& reader) {
  reader.expect('(', "after segments");
  std::vector<Label::Run> runs;
  do {
    Label::Run run{.length = reader.integer()};
    if (reader.accept('*')) run.count = reader.integer();
    runs.push_back(run);
  } while (reader.accept(','));
  reader.expect(')', "after the lengths of segments");
  Label label = Label::segments(runs);
  for (const Label::Run& run : runs) reader.count_segments(run.count);
  return label;
}

Label read_grid(TextReader& reader) {
  const auto sides = read_integers(reader, "grid", 2, 3);
  reader.expect('.', "after grid(...)");
  const std::size_t begin = reader.position();
  const std::string_view part = reader.word();
  if (part == "frame") {
    if (sides.size() != 3) reader.fail_at(begin, "frame needs a grid(frames, height, width)");
    return Label::grid_frame(sides[0], sides[1], sides[2]);
  }
  if (part != "window") reader.fail_at(begin, "expected window(...) or frame after grid(...).");
  if (sides.size() != 2) reader.fail_at(begin, "window needs a grid(height, width)");
  const auto window = read_integers(reader, "window", 2, 3);
  return Label::grid_window({.height = sides[0],
                             .width = sides[1],
                             .window_height = window[0],
                             .window_width = window[1],
                             .shift = window.size() == 3 ? window[2] : 0});
}

Label read_known(TextReader& reader, std::string_view word, int depth) {
  constexpr std::size_t kAny = std::size_t{1} << 22;
  if (word == "block") {
    const auto values = read_integers(reader, word, 1, 2);
    return Label::block(values[0], values.size() == 2 ? values[1] : 0);
  }
  if (word == "segments") return read_segments(reader);
  if (word == "segments_at") return Label::segments_at(read_integers(reader, word, 1, kAny));
  if (word == "copy") return Label::copy(read_integers(reader, word, 1, 1).front());
  if (word == "grid") return read_grid(reader);
  reader.expect('(', "after within");
  const std::int64_t size = reader.integer();
  reader.expect(',', "between the size and the label of within");
  Label inner = read_label(reader, depth + 1);
  reader.expect(')', "after the arguments of within");
  return Label::within(size, std::move(inner));
}

}  // namespace

Label read_label(TextReader& reader, int depth) {
  if (depth > kMaxDepth) reader.fail(concat("nested deeper than ", kMaxDepth));
  reader.skip_blanks();
  const std::size_t begin = reader.position();
  const std::string_view word = reader.word();
  if (word.empty()) reader.fail(concat(reader.found(), ", expected a label"));
  for (const std::string_view known : label_words()) {
    if (word == known) {
      return reader.placed(begin, [&] { return read_known(reader, word, depth); });
    }
  }
  if (reader.peek() == '(') {
    reader.fail_at(begin, unknown_word("label", word, label_words(),
                                       "block(...), segments(...), segments_at(...), copy(...), "
                                       "within(...), grid(...) or a name"));
  }
  return reader.placed(begin, [&] { return Label::named(std::string(word)); });
}

Label parse_label_at(std::string_view text, std::size_t first_column) {
  TextReader reader(text, "mask", first_column);
  Label label = read_label(reader);
  reader.expect_end("the end of the label");
  return label;
}

Label parse_label(std::string_view text) { return parse_label_at(text, 1); }

}  // namespace perpend
