#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "perpend/io/gguf.h"

namespace perpend {

// Metadata of a GGUF file that is to be written, already in the file's form. Keys keep the order in
// which they were first set.
class GgufMetadata {
 public:
  // A value of each type that a file can hold, but for arrays of arrays. The alternative chosen is
  // the type written: readers expect u32 for counts and f32 for factors.
  using Value =
      std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                   std::int32_t, float, bool, std::string, std::uint64_t, std::int64_t, double,
                   std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                   std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                   std::vector<float>, std::vector<bool>, std::vector<std::string>,
                   std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

  struct Entry {
    std::string key;
    GgufType type;
    std::string bytes;
  };

  // Throws InvalidArgument for a key that is empty or longer than 65535 bytes, and for a
  // general.alignment that is no u32 power of two up to 2^20.
  void set(std::string_view key, const Value& value);
  // Takes an entry of another file as it is, nested arrays included. Throws as set() does.
  void copy(const GgufRecord& record);
  void copy(std::span<const GgufRecord> records);
  // Nothing happens when there is no such key.
  void remove(std::string_view key);

  std::span<const Entry> entries() const { return entries_; }
  // Of the tensors' bytes: the key general.alignment, or the format's 32.
  std::uint64_t alignment() const { return alignment_; }

 private:
  void put(std::string_view key, GgufType type, std::string bytes);

  std::vector<Entry> entries_;
  std::uint64_t alignment_ = kGgufAlignment;
};

}  // namespace perpend
