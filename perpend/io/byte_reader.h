#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "perpend/core/error.h"

namespace perpend {

// Walks over the bytes of an untrusted file; every step is checked against what is left.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view name)
      : rest_(bytes), size_(bytes.size()), name_(name) {}

  // The next `count` bytes. Throws IoError naming file, field and offset when there are fewer.
  std::span<const std::byte> take(std::uint64_t count, std::string_view field) {
    if (count > rest_.size()) {
      fail(field, concat("expected ", count, " bytes at offset ", size_ - rest_.size(),
                         ", the file ends after ", rest_.size()));
    }
    const auto bytes = rest_.first(static_cast<std::size_t>(count));
    rest_ = rest_.subspan(static_cast<std::size_t>(count));
    return bytes;
  }

  std::span<const std::byte> rest() const { return rest_; }
  std::string_view name() const { return name_; }

  // Throws IoError "<file>: <field>: <what>".
  [[noreturn]] void fail(std::string_view field, std::string_view what) const {
    throw IoError(concat(name_, ": ", field, ": ", what));
  }

 private:
  std::span<const std::byte> rest_;
  std::size_t size_;
  std::string_view name_;
};

}  // namespace perpend
