#include "perpend/io/gguf_metadata.h"

#include <algorithm>
#include <cstring>

#include "perpend/core/error.h"
#include "perpend/io/byte_writer.h"

namespace perpend {
namespace {

constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::size_t kMaxKey = 65535;  // of the format's specification

// Types of scalar values in the order of GgufMetadata::Value; the arrays follow in the same order.
constexpr std::array<GgufType, 12> kValueTypes = {
    GgufType::kU8,     GgufType::kI8,  GgufType::kU16, GgufType::kI16,
    GgufType::kU32,    GgufType::kI32, GgufType::kF32, GgufType::kBool,
    GgufType::kString, GgufType::kU64, GgufType::kI64, GgufType::kF64};

void append(ByteWriter& out, const std::string& text) { out.counted_text(text); }

template <class T>
requires std::is_arithmetic_v<T>
void append(ByteWriter& out, T number) { out.number(number); }

template <class T>
void append(ByteWriter& out, const std::vector<T>& array) {
  out.number(std::uint64_t{array.size()});
  for (const T& element : array) append(out, element);
}

auto find_key(std::vector<GgufMetadata::Entry>& entries, std::string_view key) {
  return std::find_if(entries.begin(), entries.end(),
                      [&](const GgufMetadata::Entry& entry) { return entry.key == key; });
}

std::uint64_t alignment_of(GgufType type, std::string_view bytes) {
  std::uint32_t alignment = 0;
  if (type == GgufType::kU32) std::memcpy(&alignment, bytes.data(), sizeof alignment);
  if (!is_gguf_alignment(alignment)) {
    throw InvalidArgument(concat("gguf: ", kAlignmentKey, " must be a u32 power of two up to ",
                                 kGgufMaxAlignment, " (", info_of(type).name, " ", alignment, ")"));
  }
  return alignment;
}

}  // namespace

void GgufMetadata::set(std::string_view key, const Value& value) {
  const std::size_t index = value.index();
  const bool is_array = index >= kValueTypes.size();
  const GgufType type = kValueTypes[index % kValueTypes.size()];
  ByteWriter out;
  if (is_array) out.number(static_cast<std::uint32_t>(type));
  std::visit([&](const auto& held) { append(out, held); }, value);
  put(key, is_array ? GgufType::kArray : type, out.take());
}

void GgufMetadata::copy(const GgufRecord& record) {
  put(record.key, record.type,
      std::string(reinterpret_cast<const char*>(record.bytes.data()), record.bytes.size()));
}

void GgufMetadata::copy(std::span<const GgufRecord> records) {
  for (const GgufRecord& record : records) copy(record);
}

void GgufMetadata::remove(std::string_view key) {
  const auto found = find_key(entries_, key);
  if (found == entries_.end()) return;
  entries_.erase(found);
  if (key == kAlignmentKey) alignment_ = kGgufAlignment;
}

void GgufMetadata::put(std::string_view key, GgufType type, std::string bytes) {
  if (key.empty() || key.size() > kMaxKey) {
    throw InvalidArgument(
        concat("gguf: a key must have 1 to ", kMaxKey, " bytes (", key.size(), ")"));
  }
  if (key == kAlignmentKey) alignment_ = alignment_of(type, bytes);
  const auto found = find_key(entries_, key);
  if (found == entries_.end()) {
    entries_.push_back({std::string(key), type, std::move(bytes)});
  } else {
    *found = {std::string(key), type, std::move(bytes)};
  }
}

}  // namespace perpend
