#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "perpend/cli/batch_line.h"
#include "perpend/cli/comparison_report.h"
#include "perpend/cli/model_options.h"
#include "perpend/decode/text_generator.h"

namespace perpend {

// The flags that have a prompt answered in two ways.
struct ComparisonFlags {
  std::string reference;  // of --compare: exact or sequential
  bool autoregressive = false;
  std::string ar_model;
  std::string ar_adapter;

  void add_to(CLI::App& app);
  bool given() const { return autoregressive || !reference.empty(); }
  // Throws InvalidArgument for flags that exclude or need each other and an unknown reference.
  void check_flags() const;
};

// A prompt as a model reads it, and how it is to be answered.
struct ComparedRequest {
  std::vector<std::int32_t> prompt;
  GenerateOptions options;
};

// Prompts answered by a diffusion model as their options say, and once more: by the same weights
// without approximation (how far do the answers agree?), or by autoregression (what is gained?).
// Both decode with the same sampler and seed, one after another, each from an empty cache.
class Comparison {
 public:
  // The request as a model reads it: that of the other way may have another tokenizer.
  using RequestFor = std::function<ComparedRequest(const LoadedModel&)>;

  // Borrows `session`; `loaded` is how it was loaded. Throws InvalidArgument where it is no model
  // of diffusion, or none that can be autoregressive, and as ModelSession does.
  Comparison(const ComparisonFlags& flags, const ModelOptions& loaded, ModelSession& session);
  // Answers one prompt and prints both answers: a table and the texts side by side, or a line of
  // JSON. `name`, where there are several, tells it from others.
  void run(const RequestFor& request, bool json, const std::string& name = "");
  // The same for the lines of a file (batch_line.h), one after another, with a sum of all last.
  // Lines that can not be answered are reported. Returns the exit status: 2 where there were such.
  int run_batch(const std::string& file, const BatchDefaults& defaults, bool json);

 private:
  // One of the two.
  struct Way {
    std::string title;
    std::string key;
    ModelSession* session;
    std::function<GenerateOptions(GenerateOptions)> change;  // of the options of a request
  };

  ComparedAnswer answer(const Way& way, const RequestFor& request) const;

  std::unique_ptr<ModelSession> ar_session_;  // of another model
  std::array<Way, 2> ways_;
  bool compares_tokens_;
  ComparisonTotal total_;
};

}  // namespace perpend
