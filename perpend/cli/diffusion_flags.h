#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "perpend/decode/diffusion_options.h"

namespace perpend {

// The flags of how a diffusion model fills its blocks.
struct DiffusionFlags {
  std::int64_t block_size = 0;
  std::int64_t sub_block_size = 0;
  std::string cache = "auto";
  std::string unmask = "threshold";
  std::string confidence = "probability";
  std::int64_t window = 0;
  std::string similarity = "heads";
  ElasticConfig elastic;
  UnmaskRule rule;

  void add_to(CLI::App& app);
  // Throws InvalidArgument for a name that is none of a flag's.
  DiffusionOptions options() const;
  // Throws InvalidArgument that names a flag that was given.
  void check_not_given() const;

 private:
  std::vector<const CLI::Option*> given_;  // those of add_to()
};

}  // namespace perpend
