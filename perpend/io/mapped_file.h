#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace perpend {

// Ends a mapping of `size` bytes.
struct UnmapBytes {
  std::size_t size = 0;
  void operator()(const std::byte* data) const;
};

// A file mapped into memory, read only. Pages are read when they are touched and can be dropped
// again.
class MappedFile {
 public:
  // Throws IoError with the path and the reason (missing, a folder, no permission, empty).
  static MappedFile open(const std::string& path);

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }

 private:
  std::string path_;
  std::size_t size_ = 0;
  std::unique_ptr<const std::byte, UnmapBytes> data_;
};

}  // namespace perpend
