#pragma once

#include <CLI/CLI.hpp>

namespace perpend {

// The sub-commands of `perpend mask`, beside `show`.
void add_mask_list_command(CLI::App& mask);
void add_mask_explain_command(CLI::App& mask);
void add_mask_plan_command(CLI::App& mask);

}  // namespace perpend
