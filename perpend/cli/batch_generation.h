#pragma once

#include <cstdint>
#include <string>

#include "perpend/cli/batch_line.h"
#include "perpend/cli/model_options.h"

namespace perpend {

struct BatchFlags {
  std::string file;  // of JSON lines; - is standard input
  std::int64_t batch_size = 16;
  std::int64_t kv_tokens = 0;  // 0: enough for the longest requests of a batch
  bool ids = false;            // adds the tokens of prompt and answer
  std::string summary;         // a JSON file for what all answers come to; empty: none
};

// Answers the requests of a file side by side, each as `perpend generate` would answer it alone:
// an object a line on standard output as each is finished. Lines that can not be answered are
// reported on standard error by their numbers. Returns the exit status: 0, 2 where there were such
// lines, 130 after Ctrl-C.
int generate_batch(const ModelSession& session, Context& context, const BatchFlags& options,
                   const BatchDefaults& defaults);

}  // namespace perpend
