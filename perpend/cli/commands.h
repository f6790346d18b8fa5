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
void add_rank_prompts_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_evaluate_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_plan_command(CLI::App& app);
// The part of `bench` that runs models.
void add_bench_diffusion_command(CLI::App& bench);
void add_bench_model_command(CLI::App& bench);
void add_bench_rank_command(CLI::App& bench);
void add_bench_train_layer_command(CLI::App& bench);

}  // namespace perpend
