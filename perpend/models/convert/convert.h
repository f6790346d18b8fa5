#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perpend/core/function_ref.h"
#include "perpend/core/thread_pool.h"
#include "perpend/formats/block_format.h"
#include "perpend/models/model_config.h"

namespace perpend {

struct ConvertOptions {
  std::string in;   // a .gguf file or a Hugging Face folder
  std::string out;  // a path ending in .gguf, or a folder
  // Of matrices; vectors stay f32 in GGUF. Absent: each as it is, or bf16 where a folder is to hold
  // a block format.
  std::optional<BlockFormat> format;
  ModelChanges changes = {};  // written into the target's configuration
  bool replace = false;       // what is at `out`
};

struct ConvertReport {
  BlockFormat format = BlockFormat::kF32;  // of most weights
  std::int64_t num_tensors = 0;
  std::int64_t bytes_in = 0;  // of tensors
  std::int64_t bytes_out = 0;
  std::vector<std::string> notes;  // what the target can not say, one sentence each
};

// Called with bytes of tensors; false ends the work.
using ConvertProgress = FunctionRef<bool(std::int64_t done, std::int64_t total)>;

// Writes the model at `in` to `out`: tensors, constants, tokenizer and chat template. Architectures
// are those of read_model_config. Holds a few MiB at a time; `out` appears whole or not at all, and
// in a folder that is there already only the files of a model are replaced. Absent when `progress`
// ended the work, with nothing left behind. Throws InvalidArgument (a format that the target can
// not hold, rows that are no whole blocks, `out` exists or is `in`), IoError and Unsupported (a
// tensor, tokenizer or constant that the target has no word for).
std::optional<ConvertReport> convert_checkpoint(const ConvertOptions& options, ThreadPool& threads,
                                                ConvertProgress progress);

}  // namespace perpend
