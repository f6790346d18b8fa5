#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "perpend/decode/text_generator.h"
#include "perpend/nn/runtime.h"

namespace perpend {

// The flags that change what a checkpoint says of positions and masks. 0 and empty: unchanged.
struct ChangeFlags {
  std::string preset = {};
  std::string diffusion = {};
  float rope_base = 0;
  std::int64_t context = 0;

  void add_to(CLI::App& app);
  // Throws InvalidArgument for what is no object of diffusion.
  ModelChanges changes() const;
};

// Where a model's files are.
struct ModelPlace {
  std::string path;     // a .gguf file or a Hugging Face folder
  std::string adapter;  // folder of what is merged into it; empty: nothing
};

// The flags that choose a model and how it runs, shared by all commands that run one.
struct ModelOptions {
  std::string model = "smollm2-135m-instruct";
  std::string device = "auto";
  std::string precision = "auto";
  std::string adapter;
  std::string layers;
  ChangeFlags change;
  int threads = 0;

  void add_to(CLI::App& app);
  // Without masks of layers, for commands whose masks are given.
  void add_without_masks_to(CLI::App& app);
  // The same without a precision, for commands that run f32 on a CPU and bf16 on a GPU.
  void add_without_precision_to(CLI::App& app);
  ModelChanges changes() const;
  // Of a file, a folder, a fetched model's name or that of an adapter that comes with the program.
  // Throws IoError for what is not there, and InvalidArgument for two adapters.
  ModelPlace place() const;
  // Where the model runs and how its weights are held there. Throws InvalidArgument, and
  // Unsupported for a GPU that is not there and a precision that the device does not have.
  Device chosen_device() const;
  WeightForm chosen_form() const;

 private:
  void add_place_options(CLI::App& app);
  void add_mask_options(CLI::App& app);
};

// A loaded model with what it runs on.
struct ModelSession {
  // Throws InvalidArgument for options that make no sense, IoError and Unsupported from loading.
  explicit ModelSession(const ModelOptions& options, bool ranks_only = false)
      : ModelSession(options, options.place(), ranks_only) {}

  Runtime runtime;
  LoadedModel model;
  DType kv_dtype;
  std::vector<Mask> layer_masks;

 private:
  ModelSession(const ModelOptions& options, const ModelPlace& place, bool ranks_only);
};

// The flags of a sampler and of the end of an answer.
struct GenerationFlags {
  GenerateOptions options;

  GenerationFlags();
  void add_to(CLI::App& app);
};

}  // namespace perpend
