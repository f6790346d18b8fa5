#pragma once

#include <algorithm>
#include <functional>
#include <iostream>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/io/stored_tensor.h"
#include "perpend/io/tensor_spec.h"

// Tensors of files as the oracle tests' JSON has them: {"name", "format", "shape"} and, to be
// written, {"hex"}.
namespace perpend {

inline std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    text += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return text;
}

inline std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

inline nlohmann::json tensors_json(std::span<const StoredTensor> tensors) {
  nlohmann::json result = nlohmann::json::array();
  for (const StoredTensor& tensor : tensors) {
    result.push_back(
        {{"name", tensor.name}, {"format", name_of(tensor.format)}, {"shape", tensor.shape}});
  }
  return result;
}

inline void print_values(std::span<const StoredTensor> tensors) {
  for (const StoredTensor& tensor : tensors) {
    const auto count = std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1},
                                       std::multiplies<>());
    std::vector<float> values(static_cast<std::size_t>(count));
    dequantize_row(tensor.format, tensor.bytes, values);
    std::cout.write(reinterpret_cast<const char*>(values.data()),
                    static_cast<std::streamsize>(values.size() * sizeof(float)));
  }
}

inline std::vector<TensorSpec> specs_of(std::span<const StoredTensor> tensors) {
  std::vector<TensorSpec> specs;
  for (const StoredTensor& tensor : tensors) {
    specs.push_back({tensor.name, tensor.format, tensor.shape});
  }
  return specs;
}

inline std::vector<TensorSpec> specs_of(const nlohmann::json& tensors) {
  std::vector<TensorSpec> specs;
  for (const nlohmann::json& tensor : tensors) {
    specs.push_back({tensor["name"], parse_block_format(tensor["format"].get<std::string>()),
                     tensor["shape"].get<std::vector<std::int64_t>>()});
  }
  return specs;
}

// As a converter does that reads or quantises a few rows at a time.
template <class Writer>
void write_in_pieces(Writer& writer, std::string_view name, std::span<const std::byte> bytes) {
  constexpr std::size_t kPiece = 1000;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(kPiece, bytes.size()))) {
    writer.write(name, bytes.first(std::min(kPiece, bytes.size())));
  }
}

template <class Writer>
void write_tensors(Writer& writer, const nlohmann::json& tensors) {
  for (const nlohmann::json& tensor : tensors) {
    write_in_pieces(writer, tensor["name"].get<std::string>(),
                    from_hex(tensor["hex"].get<std::string>()));
  }
}

}  // namespace perpend
