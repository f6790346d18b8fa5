#include <cstdio>
#include <exception>

#include "attend.h"
#include "model_file.h"

namespace {

int expect(bool holds, const char* what) {
  if (!holds) std::fprintf(stderr, "consumer: %s\n", what);
  return holds ? 0 : 1;
}

// Keeps a mask and values in a GGUF file, reads them back and attends with them.
int run(const std::string& path) {
  const ModelFile written{"causal & window(2)", {1, 1, 3, 5, 5, 5, 9, 1}};
  write_model_file(written, path);
  const ModelFile read = read_model_file(path);
  return expect(read.mask == written.mask && read.values == written.values,
                "the file reads back as another") +
         expect(attend(read.mask, read.values, 2) == std::vector<float>{1, 1, 2, 3, 4, 5, 7, 3},
                "a token is not the mean of itself and the one before") +
         expect(round_trip(path, "abba") == "abba", "the tokenizer does not give its text back");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return argc == 2 ? run(argv[1]) : expect(false, "usage: consumer FILE");
  } catch (const std::exception& error) {
    return expect(false, error.what());
  }
}
