#include "perpend/core/error.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/mask_parser.h"

namespace perpend {

Bindings parse_bindings(std::string_view text) {
  Bindings bindings;
  TextReader reader(text, "bindings");
  while (!reader.at_end()) {
    const std::size_t begin = reader.position();
    const std::string_view name = reader.word();
    if (name.empty()) reader.fail(concat(reader.found(), ", expected a name"));
    if (bindings.label(name) != nullptr) {
      reader.fail_at(begin, concat("'", name, "' is bound already"));
    }
    reader.expect('=', "after the name");
    const Label label = bindings.bind(read_label(reader));
    reader.placed(begin, [&] { return &bindings.set(std::string(name), label); });
    if (!reader.accept(';')) reader.expect_end("';' or the end");
  }
  return bindings;
}

}  // namespace perpend
