#pragma once

#include <cstddef>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace perpend {

// A file that appears whole or not at all: written beside its place under a temporary name and
// renamed by commit(). Without commit() nothing is left behind. Of a link the file that it names is
// replaced. What is there and is no file, such as /dev/stdout or a pipe, is written to as it is.
class AtomicFile {
 public:
  // Throws IoError with path and reason.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws IoError when the bytes could not be written, here or in commit().
  void write(std::string_view text);
  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  [[noreturn]] void fail() const;

  std::string path_;
  std::string target_;     // empty where nothing is renamed
  std::string temporary_;  // or what is written to
  std::ofstream file_;
  bool committed_ = false;
};

}  // namespace perpend
