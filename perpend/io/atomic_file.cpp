#include "perpend/io/atomic_file.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <unistd.h>

#include "perpend/core/error.h"

namespace perpend {

AtomicFile::AtomicFile(const std::string& path)
    : path_(path),
      temporary_(concat(path, ".tmp", ::getpid())),
      file_(temporary_, std::ios::binary | std::ios::trunc) {
  if (!file_) throw IoError(concat(path, ": ", std::generic_category().message(errno)));
}

AtomicFile::~AtomicFile() {
  if (committed_) return;
  file_.close();
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
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
  std::filesystem::rename(temporary_, path_, error);
  if (error) throw IoError(concat(path_, ": ", error.message()));
  committed_ = true;
}

}  // namespace perpend
