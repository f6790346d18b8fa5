#include "perpend/cli/bench_options.h"

#include <algorithm>

#include "perpend/models/named_shapes.h"

namespace perpend {

void add_shape_options(CLI::App& app, std::string& shape, std::string& device, int& threads) {
  add_option(app, "--shape", shape, known_shapes());
  add_option(app, "--device", device, "cpu, cuda, cuda:N or auto");
  add_option(app, "--threads", threads, "Host threads; 0: one for each core");
}

void add_mask_options(CLI::App& app, std::string& layers, std::string& preset) {
  add_option(app, "--layers", layers, "Mask of each layer, as for generate");
  add_option(app, "--preset", preset, "longgen-as or longgen-bs, as for generate");
}

ModelConfig bench_shape(std::string_view command, const std::string& name,
                        std::int64_t num_tokens) {
  std::optional<ModelConfig> config = named_shape(name);
  check(config.has_value(),
        concat("bench ", command, ": --shape: expected ", known_shapes(), ", found '", name, "'"));
  config->context_length = std::max(config->context_length, num_tokens);
  return *config;
}

ModelConfig bench_shape(std::string_view command, const std::string& name, std::int64_t num_tokens,
                        const std::string& layers, const std::string& preset) {
  check(preset.empty() || layers.empty(),
        concat("bench ", command, ": --preset and --layers exclude each other"));
  return changed(bench_shape(command, name, num_tokens), {.preset = preset});
}

}  // namespace perpend
