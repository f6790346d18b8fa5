#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace perpend {

// The whole of a file. Throws IoError with path and reason (missing, a folder, no permission, more
// than `max_bytes`).
std::string read_text_file(const std::string& path, std::uint64_t max_bytes = 256U << 20);

// The same, absent when there is no such file.
std::optional<std::string> read_text_file_if_any(const std::string& path);

}  // namespace perpend
