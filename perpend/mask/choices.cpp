#include <limits>

#include "perpend/core/error.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {
namespace {

// Where `separator` next stands outside brackets; the end when it does not.
std::size_t find_outside(std::string_view text, char separator, std::size_t begin) {
  int depth = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    if (text[i] == separator && depth == 0) return i;
    if (text[i] == '(') ++depth;
    if (text[i] == ')') --depth;
  }
  return text.size();
}

int read_number(TextReader& reader, std::string_view noun) {
  const std::size_t begin = reader.position();
  if (reader.peek() < '0' || reader.peek() > '9') {
    reader.fail(concat("expected a ", noun, " number, a range, all or rest, found '",
                       reader.text().substr(reader.position(), 40), "'"));
  }
  const std::int64_t number = reader.integer();
  if (number > std::numeric_limits<int>::max()) {
    reader.fail_at(begin, concat("the ", noun, " number is too large"));
  }
  return static_cast<int>(number);
}

Choice::Selector read_selector(TextReader& reader, std::string_view noun) {
  reader.skip_blanks();
  const std::size_t begin = reader.position();
  Choice::Selector selector{.column = reader.column()};
  const std::string_view word = reader.word();
  selector.is_all = word == "all";
  selector.is_rest = word == "rest";
  if (selector.is_all || selector.is_rest) return selector;
  reader.move_to(begin);
  selector.first = selector.last = read_number(reader, noun);
  selector.last_column = selector.column;
  if (reader.accept('-')) {
    reader.skip_blanks();
    selector.last_column = reader.column();
    selector.last = read_number(reader, noun);
  }
  if (selector.first > selector.last) {
    reader.fail_at(begin, concat("range ", selector.first, "-", selector.last, " runs backwards"));
  }
  return selector;
}

Choice read_choice(std::string_view text, std::string_view what, std::string_view noun,
                   std::size_t column) {
  const std::size_t colon = find_outside(text, ':', 0);
  if (colon == text.size()) return {.text = text, .column = column};
  Choice choice{.text = text.substr(colon + 1), .column = column + colon + 1};
  TextReader reader(text.substr(0, colon), what, column);
  do {
    choice.selectors.push_back(read_selector(reader, noun));
  } while (reader.accept(','));
  reader.expect_end("',' or ':'");
  return choice;
}

}  // namespace

std::vector<Choice> split_choices(std::string_view text, std::string_view what,
                                  std::string_view noun, std::size_t first_column) {
  std::vector<Choice> choices;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = find_outside(text, ';', begin);
    choices.push_back(
        read_choice(text.substr(begin, end - begin), what, noun, first_column + begin));
    if (end == text.size()) return choices;
    begin = end + 1;
  }
}

}  // namespace perpend
