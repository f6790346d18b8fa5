#include "perpend/io/gguf.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/io/read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return perpend::refuse_or_use([&] {
    perpend::read_everything(
        perpend::GgufFile::parse(std::as_bytes(std::span(data, size)), "file"));
  });
}
