#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

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

// Prompts answered by a diffusion model as the options say, and once more: by the same weights
// without approximation (how far do the answers agree?), or by autoregression (what is gained?).
// Both decode with the same sampler and seed, one after another, each from an empty cache.
class Comparison {
 public:
  using Encode = std::function<std::vector<std::int32_t>(const LoadedModel&)>;

  // Borrows `session`; `loaded` is how it was loaded. Throws InvalidArgument where it is no model
  // of diffusion, or none that can be autoregressive, and as ModelSession does.
  Comparison(const ComparisonFlags& flags, const ModelOptions& loaded, ModelSession& session,
             const GenerateOptions& options);
  ~Comparison();

  // Answers one prompt and prints both answers: a table and the texts side by side, or one line of
  // JSON.
  void run(const Encode& encode, bool json);

 private:
  struct Way;
  struct Answer;

  Answer answer(const Way& way, const Encode& encode) const;

  std::unique_ptr<ModelSession> ar_session_;  // of another model
  std::vector<Way> ways_;                     // two
  bool compares_tokens_;
};

}  // namespace perpend
