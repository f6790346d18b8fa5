#include "perpend/io/tokenizer/tokenizer_agreement.h"

#include <algorithm>
#include <array>
#include <vector>

#include "perpend/core/concat.h"
#include "perpend/io/tokenizer/utf8.h"

namespace perpend {
namespace {

constexpr std::array<std::string_view, 8> kHardCases = {
    "",
    " ",
    "Hello, world! It's 2024's last day; they'll've gone. I'M HE'D WE'RE",
    "  leading and   inner    blanks \t tabs\n\nnew lines\r\n  \n   end   ",
    "def f(x):\n    return x ** 2  # 12345678901234567890 0.5e-10 \xD9\xA1\xD9\xA2\xD9\xA3 "
    "\xC2\xBD",
    "cafe\xCC\x81 caf\xC3\xA9 \xC3\x85ngstr\xC3\xB6m \xE2\x84\xAB",
    "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xED\x95\x9C\xEA\xB5\xAD \xD0\xBC\xD0\xB8\xD1\x80 "
    "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80",
    "<|endoftext|> <s>a</s> [INST] <0x41>"};

constexpr std::size_t kMaxBlanks = 64;  // in a run

// Every byte that occurs in UTF-8: all of one and two bytes, and one more for each first byte.
std::string all_bytes() {
  std::string text;
  for (char32_t code = 0; code < 0x800; ++code) append_utf8(code, text);
  for (char32_t code = 0x1000; code < 0x10000; code += 0x1000) {
    append_utf8(code == 0xD000 ? U'\uAC00' : code, text);
  }
  for (char32_t code = 0x10000; code < 0x110000; code += 0x40000) append_utf8(code, text);
  return text;
}

bool agree(const Tokenizer& a, const Tokenizer& b, std::string_view text, EncodeOptions options) {
  return a.encode(text, options) == b.encode(text, options);
}

// Ids of tokens that both have: GGUF fills gaps.
std::vector<std::int32_t> common_ids(const Tokenizer& a, const Tokenizer& b) {
  std::vector<std::int32_t> ids;
  const auto count = static_cast<std::int32_t>(std::min(a.vocab_size(), b.vocab_size()));
  for (std::int32_t id = 0; id < count; ++id) {
    if (!a.id_to_token(id).empty() && !b.id_to_token(id).empty()) ids.push_back(id);
  }
  return ids;
}

}  // namespace

std::optional<std::string> text_read_differently(const Tokenizer& a, const Tokenizer& b,
                                                 std::string_view lead) {
  std::vector<std::string> texts(kHardCases.begin(), kHardCases.end());
  for (std::size_t length = 1; length <= kMaxBlanks; ++length) {
    texts.push_back(concat("a", std::string(length, ' '), "b"));
  }
  texts.push_back(all_bytes());
  const std::vector<std::int32_t> ids = common_ids(a, b);
  for (const std::int32_t id : ids) texts.push_back(a.token_bytes(id));
  constexpr EncodeOptions kPlain = {.add_special_tokens = true, .parse_special = false};
  for (const std::string& text : texts) {
    if (!agree(a, b, concat(lead, text), kPlain)) return text;
  }
  for (const std::int32_t id : ids) {
    if (a.token_bytes(id) != b.token_bytes(id)) return std::string(a.id_to_token(id));
  }
  return std::nullopt;
}

std::optional<std::string> template_text_read_differently(const Tokenizer& a, const Tokenizer& b) {
  constexpr EncodeOptions kTemplate = {.add_special_tokens = false, .parse_special = true};
  for (const std::int32_t id : common_ids(a, b)) {
    if (!a.is_special(id) || !b.is_special(id)) continue;
    const std::string token(a.id_to_token(id));
    for (const std::string& text :
         {token, concat("user", token, "hi"), concat("user ", token, " hi\n")}) {
      if (!agree(a, b, text, kTemplate)) return text;
    }
  }
  return std::nullopt;
}

}  // namespace perpend
