#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace perpend {

// Collects the bytes of a binary header; numbers as they lie in memory, little endian.
class ByteWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  void number(T value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }

  void text(std::string_view string) { bytes_.append(string); }
  // Preceded by its length as u64.
  void counted_text(std::string_view string) {
    number(std::uint64_t{string.size()});
    text(string);
  }

  const std::string& bytes() const { return bytes_; }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

}  // namespace perpend
