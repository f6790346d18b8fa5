#pragma once

#include <span>
#include <string>

#include "perpend/train/train_log.h"

namespace perpend {

// Draws the loss over the steps, and each of several losses, as `path` with ".svg" and ".png".
// Throws IoError with path and reason.
void write_loss_plot(std::span<const LogEntry> entries, const std::string& title,
                     const std::string& path);

}  // namespace perpend
