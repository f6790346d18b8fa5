#include "perpend/io/text_file.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "perpend/core/error.h"

namespace perpend {

std::string read_text_file(const std::string& path, std::uint64_t max_bytes) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) throw IoError(concat(path, ": ", error.message()));
  if (size > max_bytes) {
    throw IoError(concat(path, ": expected at most ", max_bytes, " bytes, found ", size));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(size, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    throw IoError(concat(path, ": can not be read"));
  }
  return text;
}

std::optional<std::string> read_text_file_if_any(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  return read_text_file(path);
}

}  // namespace perpend
