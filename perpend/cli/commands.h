#pragma once

#include <CLI/CLI.hpp>

namespace perpend {

// Each adds one sub-command to `app`, with its flags, help and examples, and runs it when chosen.
void add_generate_command(CLI::App& app);
void add_chat_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_mask_command(CLI::App& app);
void add_perplexity_command(CLI::App& app);
void add_rank_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_bench_command(CLI::App& app);

}  // namespace perpend
