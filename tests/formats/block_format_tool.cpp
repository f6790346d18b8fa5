// Converts between blocks and f32 on standard streams, for the oracle test:
//   block_format_tool decode|encode FORMAT < in > out

#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>
#include <vector>

#include "perpend/formats/block_format.h"

namespace {

std::vector<std::byte> read_all() {
  std::vector<std::byte> data;
  std::vector<std::byte> chunk(1 << 16);
  for (std::size_t count; (count = std::fread(chunk.data(), 1, chunk.size(), stdin)) > 0;) {
    data.insert(data.end(), chunk.begin(), chunk.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return data;
}

void convert(std::string_view direction, perpend::BlockFormat format) {
  const std::vector<std::byte> in = read_all();
  const auto& info = perpend::info_of(format);
  std::vector<std::byte> out;
  if (direction == "decode") {
    std::vector<float> values(in.size() / static_cast<std::size_t>(info.block_bytes) *
                              static_cast<std::size_t>(info.block_size));
    perpend::dequantize_row(format, in, values);
    out.resize(values.size() * 4);
    std::memcpy(out.data(), values.data(), out.size());
  } else {
    std::vector<float> values(in.size() / 4);
    std::memcpy(values.data(), in.data(), in.size());
    out.resize(perpend::row_bytes(format, static_cast<std::int64_t>(values.size())));
    perpend::quantize_row(format, values, out);
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    convert(argv[1], perpend::parse_block_format(argv[2]));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
