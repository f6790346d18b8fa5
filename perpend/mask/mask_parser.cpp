#include "perpend/mask/mask_parser.h"

#include <string>
#include <utility>
#include <vector>

#include "perpend/core/error.h"
#include "perpend/mask/compositions.h"
#include "perpend/mask/words.h"

namespace perpend {
namespace {

constexpr int kMaxDepth = 100;
constexpr std::size_t kMaxValues = std::size_t{1} << 16;

// Recursive descent: expression = term { | term }, term = factor { & factor },
// factor = ~ factor | ( expression ) | primitive.
class MaskParser {
 public:
  MaskParser(std::string_view text, std::size_t first_column, int depth)
      : reader_(text, "mask", first_column), depth_(depth) {}

  Mask parse() {
    Mask mask = expression(depth_);
    reader_.expect_end("& or | or the end");
    return mask;
  }

 private:
  Mask expression(int depth) {
    std::vector<Mask> terms = {term(depth)};
    while (reader_.accept('|')) terms.push_back(term(depth));
    return Mask::any_of(terms);
  }
  Mask term(int depth) {
    std::vector<Mask> factors = {factor(depth)};
    while (reader_.accept('&')) factors.push_back(factor(depth));
    return Mask::all_of(factors);
  }
  Mask factor(int depth) {
    if (depth > kMaxDepth) reader_.fail(concat("nested deeper than ", kMaxDepth));
    if (reader_.accept('~')) return ~factor(depth + 1);
    if (reader_.accept('(')) {
      Mask mask = expression(depth + 1);
      reader_.expect(')', "to close the bracket");
      return mask;
    }
    return primitive(depth);
  }

  Mask primitive(int depth) {
    reader_.skip_blanks();
    const std::size_t begin = reader_.position();
    const std::string_view word = reader_.word();
    if (word.empty()) reader_.fail(concat(reader_.found(), ", expected a mask"));
    if (word == "all") return Mask::all();
    if (word == "none") return Mask::none();
    if (word == "causal") return Mask::causal();
    if (word == "heads") return reader_.placed(begin, [&] { return heads(depth); });
    const Composition* composition = find_composition(word);
    if (composition == nullptr && !is_known(word)) reader_.fail_at(begin, unknown(word));
    reader_.expect('(', concat("after ", word));
    Mask mask = composition != nullptr
                    ? expand(*composition, begin)
                    : reader_.placed(begin, [&] { return with_arguments(word); });
    reader_.expect(')', concat("after the arguments of ", word));
    return mask;
  }

  static bool is_known(std::string_view word) {
    for (const std::string_view known : mask_words()) {
      if (word == known) return true;
    }
    return false;
  }
  static std::string unknown(std::string_view word) {
    std::vector<std::string_view> known(mask_words().begin(), mask_words().end());
    for (const Composition& composition : compositions()) known.push_back(composition.name);
    return unknown_word("word", word, known,
                        "all, none, causal, window(...), sink(...), same(...), upto(...), "
                        "before(...), q_in(...), k_in(...), every(...), near(...), table(...), "
                        "tiles(...), heads(...), a named composition, ~ or (");
  }

  Mask with_arguments(std::string_view word) {
    if (word == "sink") return Mask::sink(reader_.integer());
    if (word == "window") {
      const auto values = integers(word, 1, 2);
      return values.size() == 1 ? Mask::window(values[0]) : Mask::window(values[0], values[1]);
    }
    if (word == "near") {
      const auto values = integers(word, 2, 2);
      return Mask::near(values[0], values[1]);
    }
    if (word == "every") {
      const auto values = integers(word, 2, 3);
      return Mask::every(values[0], values[1], values.size() == 3 ? values[2] : 0);
    }
    if (word == "tiles") return tiles();
    const Label label = read_label(reader_);
    if (word == "same") return Mask::same(label);
    if (word == "upto") return Mask::upto(label);
    if (word == "before") return Mask::before(label);
    if (word == "table") return Mask::table(label, rows());
    std::vector<std::int64_t> values;
    while (values.size() < kMaxValues && reader_.accept(',')) {
      values.push_back(reader_.integer(/*negative=*/true));
    }
    if (values.empty()) reader_.fail(concat("expected ',' and a value of the label in ", word));
    return word == "q_in" ? Mask::q_in(label, values) : Mask::k_in(label, values);
  }

  std::vector<std::int64_t> integers(std::string_view word, std::size_t least, std::size_t most) {
    std::vector<std::int64_t> values = {reader_.integer()};
    while (values.size() < most && reader_.accept(',')) values.push_back(reader_.integer());
    if (values.size() < least) reader_.fail(concat(word, " needs ", least, " arguments"));
    return values;
  }

  std::vector<std::string> rows() {
    std::vector<std::string> result;
    while (result.size() < kMaxValues && reader_.accept(',')) {
      result.emplace_back(reader_.digits("a row of 0 and 1"));
    }
    return result;
  }

  Mask tiles() {
    const std::string_view name = reader_.word();
    if (name.empty()) reader_.fail(concat(reader_.found(), ", expected the name of a tile map"));
    return Mask::tiles(std::string(name));
  }

  // Text up to the bracket that closes the one just read.
  std::string_view inside_brackets() {
    const std::string_view text = reader_.text();
    const std::size_t begin = reader_.position();
    int open = 1;
    for (std::size_t i = begin; i < text.size(); ++i) {
      open += text[i] == '(' ? 1 : text[i] == ')' ? -1 : 0;
      if (open == 0) {
        reader_.move_to(i);
        return text.substr(begin, i - begin);
      }
    }
    reader_.move_to(text.size());
    reader_.fail("expected ')' to close the bracket");
  }

  Mask heads(int depth) {
    reader_.expect('(', "after heads");
    const std::size_t column = reader_.column();
    std::vector<Mask::HeadChoice> choices;
    std::optional<Mask> rest;
    for (const Choice& choice : split_choices(inside_brackets(), "mask", "head", column)) {
      const Mask mask = MaskParser(choice.text, choice.column, depth + 1).parse();
      std::vector<HeadSpan> spans;
      for (const Choice::Selector& selector : choice.selectors) {
        if (selector.is_rest && !rest && choice.selectors.size() == 1) {
          rest = mask;
        } else if (selector.is_rest || selector.is_all) {
          fail_in_column(selector.column, selector.is_all ? "expected head numbers or rest"
                                                          : "rest is given twice or with others");
        } else {
          spans.push_back({selector.first, selector.last});
        }
      }
      if (choice.selectors.empty()) fail_in_column(choice.column, "expected 'heads: mask'");
      if (!spans.empty()) choices.emplace_back(std::move(spans), mask);
    }
    reader_.expect(')', "after the choices of heads");
    return Mask::heads(choices, rest);
  }

  [[noreturn]] static void fail_in_column(std::size_t column, std::string_view problem) {
    throw InvalidArgument(concat("mask: column ", column, ": ", problem));
  }

  Mask expand(const Composition& composition, std::size_t begin) {
    std::vector<std::string> arguments;
    while (reader_.peek() != ')') {
      const char next = reader_.peek();
      arguments.push_back(next >= '0' && next <= '9' ? concat(reader_.integer())
                                                     : read_label(reader_).str());
      if (!reader_.accept(',')) break;
      if (reader_.peek() == ')') reader_.fail("expected an argument");
    }
    try {
      return MaskParser(expanded(composition, arguments), 1, depth_ + 1).parse();
    } catch (const InvalidArgument& error) {
      reader_.fail_at(
          begin, concat("in ", composition.name, "(...): ", TextReader::problem_of(error.what())));
    }
  }

  TextReader reader_;
  int depth_;
};

}  // namespace

Mask parse_mask_at(std::string_view text, std::size_t first_column) {
  return MaskParser(text, first_column, 0).parse();
}

Mask parse_mask(std::string_view text) { return parse_mask_at(text, 1); }

}  // namespace perpend
