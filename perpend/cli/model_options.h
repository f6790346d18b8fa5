#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "perpend/decode/text_generator.h"
#include "perpend/nn/runtime.h"

namespace perpend {

// The flags that choose a model and how it runs, shared by all commands that run one.
struct ModelOptions {
  std::string model = "smollm2-135m-instruct";
  std::string precision = "quantized";
  std::string layers;
  int threads = 0;

  void add_to(CLI::App& app);
  // The same without masks of layers, for commands whose masks are given.
  void add_without_masks_to(CLI::App& app);
};

// A loaded model with what it runs on.
struct ModelSession {
  // Throws InvalidArgument for options that make no sense, IoError and Unsupported from loading.
  explicit ModelSession(const ModelOptions& options);

  Runtime runtime;
  LoadedModel model;
  DType kv_dtype;
  std::vector<Mask> layer_masks;
};

// The flags of a sampler and of the end of an answer.
struct GenerationFlags {
  GenerateOptions options;

  GenerationFlags();
  void add_to(CLI::App& app);
};

// "quantized" or "f32"; throws InvalidArgument.
LinearMode parse_precision(const std::string& text);

}  // namespace perpend
