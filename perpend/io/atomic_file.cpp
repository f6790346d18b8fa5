#include "perpend/io/atomic_file.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {
namespace fs = std::filesystem;
namespace {

// The file that is to be there in the end; empty for what is there and is no file.
std::string file_at(const std::string& path) {
  std::error_code unknown;
  const fs::file_status status = fs::status(path, unknown);
  if (!fs::exists(status)) return path;
  if (!fs::is_regular_file(status)) return {};
  const fs::path named = fs::canonical(path, unknown);
  return unknown ? path : named.string();
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path)
    : path_(path),
      target_(file_at(path)),
      temporary_(target_.empty() ? path : concat(target_, ".tmp", ::getpid())),
      file_(temporary_, std::ios::binary | std::ios::trunc) {
  if (!file_) throw IoError(concat(path, ": ", std::generic_category().message(errno)));
}

AtomicFile::~AtomicFile() {
  if (committed_ || target_.empty()) return;
  file_.close();
  std::error_code ignored;
  fs::remove(temporary_, ignored);
}

void AtomicFile::write(std::string_view text) {
  file_.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file_) fail();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::fail() const {
  throw IoError(concat(path_, ": could not be written (disk full?)"));
}

void AtomicFile::commit() {
  file_.close();
  if (!file_) fail();
  std::error_code error;
  if (!target_.empty()) fs::rename(temporary_, target_, error);
  if (error) throw IoError(concat(path_, ": ", error.message()));
  committed_ = true;
}

}  // namespace perpend
