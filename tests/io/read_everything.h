#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/core/error.h"
#include "perpend/io/gguf.h"
#include "perpend/io/safetensors.h"
#include "perpend/io/tensor_spec.h"

// Uses all that a reader hands out, as a model would: what it accepted must be sound.
namespace perpend {

// Throws std::logic_error when a tensor's bytes are not as many as its shape says.
inline void read_tensors(std::span<const StoredTensor> tensors) {
  for (const StoredTensor& tensor : tensors) {
    if (tensor.bytes.size() != num_bytes_of({tensor.name, tensor.format, tensor.shape})) {
      bug("a tensor's bytes do not fit its shape");
    }
    const auto& info = info_of(tensor.format);
    std::vector<float> values(static_cast<std::size_t>(info.block_size));
    const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
    for (auto rest = tensor.bytes; !rest.empty(); rest = rest.subspan(block_bytes)) {
      dequantize_row(tensor.format, rest.first(block_bytes), values);
    }
  }
}

inline void read_everything(const GgufFile& file) {
  const auto attempt = [](auto read) {
    try {
      read();
    } catch (const IoError&) {
      // The value is of another type.
    }
  };
  for (const auto& [key, value] : file.metadata()) {
    attempt([&, name = key] { file.require_u64(name); });
    attempt([&, name = key] { file.get_f64(name); });
    attempt([&, name = key] { file.get_bool(name); });
    attempt([&, name = key] { file.require_string(name); });
    attempt([&, name = key] { file.get_strings(name); });
    attempt([&, name = key] { file.get_floats(name); });
    attempt([&, name = key] { file.get_ints(name); });
  }
  read_tensors(file.tensors());
}

inline void read_everything(const SafetensorsFile& file) { read_tensors(file.tensors()); }

}  // namespace perpend
