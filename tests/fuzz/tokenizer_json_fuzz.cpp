#include "perpend/io/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using namespace perpend;

// What a caller does with a tokenizer: ids of the vocabulary, and text of what it gave.
void use(const Tokenizer& tokenizer, std::string_view text) {
  const auto size = static_cast<std::int32_t>(tokenizer.vocab_size());
  for (const bool special : {false, true}) {
    const auto ids =
        tokenizer.encode(text, {.add_special_tokens = special, .parse_special = special});
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= size) bug("an id outside the vocabulary");
    }
    tokenizer.decode(ids, special);
  }
  for (const std::int32_t id : {-1, 0, size - 1, size}) {
    tokenizer.token_bytes(id);
    tokenizer.id_to_token(id);
    tokenizer.decode({id});
  }
}

}  // namespace

// A tokenizer.json, a zero byte and a text to encode.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input = text_of(data, size);
  const std::size_t end = input.find('\0');
  return refuse_or_use([&] {
    use(load_tokenizer_json(input.substr(0, end), "tokenizer.json"),
        end == input.npos ? "Hello, wörld! 123\n" : input.substr(end + 1));
  });
}
