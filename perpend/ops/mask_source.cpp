#include "perpend/ops/mask_source.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>

#include "perpend/mask/bindings.h"

namespace perpend {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

void check_array(const TensorView& array, std::string_view name) {
  if ((array.dtype != DType::kI32 && array.dtype != DType::kI64) || !array.is_contiguous() ||
      array.device.type != DeviceType::kCpu) {
    throw InvalidArgument(concat("mask: the array of '", name,
                                 "' must be dense i32 or i64 on the cpu, found ", array));
  }
}

// Values [begin, begin + count) of a dense i32 or i64 array.
template <class T>
std::vector<T> values_of(const TensorView& array, std::int64_t begin, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (array.dtype == DType::kI32) {
    std::copy_n(array.as<const std::int32_t>() + begin, count, values.begin());
  } else {
    std::copy_n(array.as<const std::int64_t>() + begin, count, values.begin());
  }
  return values;
}

template <class T>
std::vector<T> all_values_of(const TensorView& array, std::string_view name, DType dtype) {
  check_array(array, name);
  if (array.dtype != dtype) {
    throw InvalidArgument(
        concat("mask: an array of the tile map '", name, "' must be ", dtype, ", found ", array));
  }
  return values_of<T>(array, 0, num_elements(array.shape));
}

// "tiles(a, b, c)" as numbers; absent for other texts.
std::optional<std::array<std::int64_t, 3>> tile_sizes(std::string_view text) {
  constexpr std::string_view kOpen = "tiles(";
  if (text.substr(0, kOpen.size()) != kOpen || text.back() != ')') return std::nullopt;
  std::array<std::int64_t, 3> sizes{};
  const char* at = text.data() + kOpen.size();
  const char* const end = text.data() + text.size();
  for (std::int64_t& size : sizes) {
    while (at != end && *at == ' ') ++at;
    const auto [next, error] = std::from_chars(at, end, size);
    if (error != std::errc{} || next == end || (*next != ',' && *next != ')')) {
      throw InvalidArgument(concat("mask: expected tiles(tile_q, tile_k, columns), found ", text));
    }
    at = next + 1;
  }
  return sizes;
}

// Reads the bindings of one sequence, in order.
class BindingReader {
 public:
  BindingReader(const MaskSource& source, const AttentionShape& shape, std::size_t sequence)
      : source_(source), shape_(shape), sequence_(sequence) {}

  Bindings read() {
    for (const std::string& text : source_.bindings) add(text);
    check_eq(next_, source_.arrays.size(), "mask: bindings name another number of arrays");
    return bindings_;
  }

  // Whether an array is cut into one part for each sequence.
  static bool by_sequence(const TensorView& array, const AttentionShape& shape) {
    return array.num_axes() == 2 || (is_ragged(shape) && array.size(0) == total_kv(shape));
  }

 private:
  // Sequences of equal lengths share an array as they would in a dense batch.
  static bool is_ragged(const AttentionShape& shape) { return shape.sequences.size() > 1; }
  static std::int64_t total_kv(const AttentionShape& shape) {
    std::int64_t total = 0;
    for (const SequenceShape& sequence : shape.sequences) total += sequence.kv_len;
    return total;
  }

  void add(std::string_view text) {
    const auto equals = text.find('=');
    const std::string name(trimmed(text.substr(0, equals)));
    if (equals == std::string_view::npos) {
      bindings_.set(name, label_of(next_array(name), name));
      return;
    }
    const std::string_view value = trimmed(text.substr(equals + 1));
    if (const auto sizes = tile_sizes(value)) {
      bindings_.set(name, tiles_of(*sizes, name));
    } else {
      bindings_.set(name, bindings_.bind(parse_label(value)));
    }
  }

  const TensorView& next_array(std::string_view name) {
    if (next_ == source_.arrays.size()) {
      throw InvalidArgument(concat("mask: there is no array for '", name, "'"));
    }
    return source_.arrays[next_++];
  }

  Label label_of(const TensorView& array, std::string_view name) const {
    check_array(array, name);
    const auto batch = static_cast<std::int64_t>(shape_.sequences.size());
    if (array.num_axes() == 2) {
      check_eq(array.size(0), batch,
               concat("mask: rows of the array of '", name, "' and sequences differ"));
      return label(array, static_cast<std::int64_t>(sequence_) * array.size(1), array.size(1));
    }
    if (array.num_axes() != 1) {
      throw InvalidArgument(concat("mask: the array of '", name,
                                   "' must be [positions] or [batch, positions], found ", array));
    }
    if (!by_sequence(array, shape_)) return label(array, 0, array.size(0));
    std::int64_t begin = 0;
    for (std::size_t s = 0; s < sequence_; ++s) begin += shape_.sequences[s].kv_len;
    return label(array, begin, shape_.sequences[sequence_].kv_len);
  }

  static Label label(const TensorView& array, std::int64_t begin, std::int64_t count) {
    return Label::array(values_of<std::int64_t>(array, begin, count));
  }

  TileMap tiles_of(const std::array<std::int64_t, 3>& sizes, std::string_view name) {
    TileMap::Tiles tiles{.tile_q = sizes[0], .tile_k = sizes[1], .num_columns = sizes[2]};
    tiles.row_begin = all_values_of<std::int64_t>(next_array(name), name, DType::kI64);
    tiles.columns = all_values_of<std::int32_t>(next_array(name), name, DType::kI32);
    tiles.bitmaps = all_values_of<std::int32_t>(next_array(name), name, DType::kI32);
    tiles.words = all_values_of<std::uint64_t>(next_array(name), name, DType::kI64);
    return TileMap(std::move(tiles));
  }

  const MaskSource& source_;
  const AttentionShape& shape_;
  std::size_t sequence_;
  std::size_t next_ = 0;  // of source_.arrays
  Bindings bindings_;
};

std::size_t num_bytes(const TensorView& array) {
  return static_cast<std::size_t>(num_elements(array.shape)) * size_of(array.dtype);
}

}  // namespace

std::vector<Mask> read_masks(const MaskSource& source, const AttentionShape& shape) {
  const std::size_t batch = shape.sequences.size();
  const std::size_t num_texts = source.texts.size();
  check(num_texts == 1 || num_texts == batch,
        concat("mask: expected one mask or one for each sequence (", num_texts, " masks, ", batch,
               " sequences)"));
  const bool by_sequence = std::any_of(
      source.arrays.begin(), source.arrays.end(),
      [&](const TensorView& array) { return BindingReader::by_sequence(array, shape); });
  std::vector<Mask> masks;
  Bindings bindings = BindingReader(source, shape, 0).read();
  for (std::size_t s = 0; s < (by_sequence ? batch : num_texts); ++s) {
    if (by_sequence && s > 0) bindings = BindingReader(source, shape, s).read();
    masks.push_back(parse_mask(source.texts[num_texts == 1 ? 0 : s]).bind(bindings));
  }
  return masks;
}

bool MaskCache::is_of(const Entry& entry, const MaskSource& source,
                      const std::vector<std::int64_t>& kv_lengths) {
  if (entry.texts != source.texts || entry.bindings != source.bindings ||
      entry.arrays.size() != source.arrays.size() ||
      (!source.arrays.empty() && entry.kv_lengths != kv_lengths)) {
    return false;
  }
  const std::byte* values = entry.values.data();
  for (std::size_t i = 0; i < entry.arrays.size(); ++i) {
    const TensorView& known = entry.arrays[i];
    const TensorView& given = source.arrays[i];
    if (known.dtype != given.dtype || !(known.shape == given.shape) || !given.is_contiguous() ||
        given.device.type != DeviceType::kCpu ||
        (num_bytes(given) > 0 && std::memcmp(values, given.data, num_bytes(given)) != 0)) {
      return false;
    }
    values += num_bytes(given);
  }
  return true;
}

std::shared_ptr<const std::vector<Mask>> MaskCache::get(const MaskSource& source,
                                                        const AttentionShape& shape) {
  std::vector<std::int64_t> kv_lengths;
  kv_lengths.reserve(shape.sequences.size());
  for (const SequenceShape& sequence : shape.sequences) kv_lengths.push_back(sequence.kv_len);
  const std::scoped_lock lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return is_of(entry, source, kv_lengths);
  });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return found->masks;
  }
  auto masks = std::make_shared<const std::vector<Mask>>(read_masks(source, shape));
  Entry entry{source.texts, source.bindings, source.arrays, {}, std::move(kv_lengths), masks};
  for (TensorView& array : entry.arrays) {
    const auto* bytes = array.as<const std::byte>();
    entry.values.insert(entry.values.end(), bytes, bytes + num_bytes(array));
    array.data = nullptr;
  }
  entries_.push_front(std::move(entry));
  if (entries_.size() > capacity_) entries_.pop_back();
  return masks;
}

MaskCache& mask_cache() {
  static MaskCache cache;
  return cache;
}

}  // namespace perpend
