#include "perpend/kernels/reference/operand.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "perpend/core/half.h"

namespace perpend {
namespace {

// How values of a type are stored.
struct AsF64 {
  using Stored = double;
  static double load(double stored) { return stored; }
  static double store(double value) { return value; }
};
struct AsF32 {
  using Stored = float;
  static double load(float stored) { return stored; }
  static float store(double value) { return static_cast<float>(value); }
};
struct AsF16 {
  using Stored = std::uint16_t;
  static double load(std::uint16_t stored) { return f16_to_f32(stored); }
  static std::uint16_t store(double value) { return f32_to_f16(static_cast<float>(value)); }
};
struct AsBF16 {
  using Stored = std::uint16_t;
  static double load(std::uint16_t stored) { return bf16_to_f32(stored); }
  static std::uint16_t store(double value) { return f32_to_bf16(static_cast<float>(value)); }
};

// Calls body(how) with the way of the type, which is asked once for all values that body visits.
template <class Body>
auto by_type(DType dtype, Body body) {
  switch (dtype) {
    case DType::kF64:
      return body(AsF64());
    case DType::kF32:
      return body(AsF32());
    case DType::kF16:
      return body(AsF16());
    case DType::kBF16:
      return body(AsBF16());
    default:
      bug("operand: not a float type");
  }
}

template <class How>
const typename How::Stored* values_of(How /*how*/, const std::vector<std::byte>& bytes) {
  return reinterpret_cast<const typename How::Stored*>(bytes.data());
}
template <class How>
typename How::Stored* values_of(How /*how*/, std::vector<std::byte>& bytes) {
  return reinterpret_cast<typename How::Stored*>(bytes.data());
}

}  // namespace

Operand::Operand(DType dtype, std::vector<std::int64_t> lengths, int num_heads,
                 std::int64_t head_dim, const OperandLayout& layout)
    : dtype_(dtype),
      lengths_(std::move(lengths)),
      num_heads_(num_heads),
      head_dim_(head_dim),
      ragged_(layout.ragged) {
  const std::int64_t total = std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
  const std::int64_t row = head_dim_ + layout.gap;
  // Heads lie outside the tokens that one axis of the view counts.
  const std::int64_t tokens = ragged_ || lengths_.empty() ? total : lengths_.front();
  token_stride_ = layout.head_major ? row : row * num_heads_ + layout.gap;
  head_stride_ = layout.head_major ? tokens * row + layout.gap : row;
  const std::int64_t batch_stride =
      layout.head_major ? head_stride_ * num_heads_ : tokens * token_stride_;
  std::int64_t first = 0;
  for (const std::int64_t length : lengths_) {
    if (!ragged_) check_eq(length, tokens, "operand: lengths of a dense batch differ");
    first_.push_back(first);
    first += ragged_ ? length * token_stride_ : batch_stride;
  }
  const std::int64_t size = ragged_ && layout.head_major ? batch_stride : first;
  bytes_.resize(static_cast<std::size_t>(size + 1) * size_of(dtype_));
  by_type(dtype_, [&](auto how) {
    std::fill_n(values_of(how, bytes_), size + 1,
                how.store(std::numeric_limits<double>::quiet_NaN()));
  });
}

void Operand::fill_random(Random& random, double amplitude) {
  by_type(dtype_, [&](auto how) {
    for_each_row([&](std::int64_t row) {
      auto* const values = values_of(how, bytes_) + row;
      for (std::int64_t d = 0; d < head_dim_; ++d) {
        values[d] = how.store(amplitude * (2 * random.next_double() - 1));
      }
    });
  });
}

double Operand::get(std::size_t sequence, std::int64_t token, int head, std::int64_t d) const {
  return by_type(dtype_, [&](auto how) {
    return how.load(values_of(how, bytes_)[index(sequence, token, head) + d]);
  });
}

void Operand::set(std::size_t sequence, std::int64_t token, int head, std::int64_t d,
                  double value) {
  by_type(dtype_, [&](auto how) {
    values_of(how, bytes_)[index(sequence, token, head) + d] = how.store(value);
  });
}

std::vector<double> Operand::rows(std::size_t sequence, int head) const {
  std::vector<double> values(static_cast<std::size_t>(lengths_[sequence] * head_dim_));
  by_type(dtype_, [&](auto how) {
    double* next = values.data();
    for (std::int64_t t = 0; t < lengths_[sequence]; ++t) {
      const auto* const row = values_of(how, bytes_) + index(sequence, t, head);
      for (std::int64_t d = 0; d < head_dim_; ++d) *next++ = how.load(row[d]);
    }
  });
  return values;
}

std::vector<std::byte> Operand::row_bytes(std::size_t sequence) const {
  const std::size_t row = static_cast<std::size_t>(head_dim_) * size_of(dtype_);
  std::vector<std::byte> bytes;
  for (std::int64_t t = 0; t < lengths_[sequence]; ++t) {
    for (int h = 0; h < num_heads_; ++h) {
      const auto begin = static_cast<std::size_t>(index(sequence, t, h)) * size_of(dtype_);
      bytes.insert(bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin),
                   bytes_.begin() + static_cast<std::ptrdiff_t>(begin + row));
    }
  }
  return bytes;
}

std::int64_t Operand::num_strays() const {
  const auto size = static_cast<std::int64_t>(bytes_.size() / size_of(dtype_));
  return by_type(dtype_, [&](auto how) {
    const auto num_written = [&](std::int64_t first, std::int64_t count) {
      const auto* const values = values_of(how, bytes_) + first;
      return std::count_if(values, values + count,
                           [&](auto stored) { return !std::isnan(how.load(stored)); });
    };
    std::int64_t strays = num_written(0, size);
    for_each_row([&](std::int64_t row) { strays -= num_written(row, head_dim_); });
    return strays;
  });
}

std::vector<std::int32_t> Operand::indptr() const {
  std::vector<std::int32_t> result = {0};
  for (const std::int64_t length : lengths_) {
    result.push_back(result.back() + static_cast<std::int32_t>(length));
  }
  return result;
}

std::int64_t Operand::index(std::size_t sequence, std::int64_t token, int head) const {
  return first_[sequence] + token * token_stride_ + head * head_stride_;
}

TensorView Operand::view_of(std::size_t first, std::size_t count) {
  std::byte* data = bytes_.data();
  if (!lengths_.empty()) data += first_[first] * static_cast<std::int64_t>(size_of(dtype_));
  if (ragged_) {
    std::int64_t total = 0;
    for (std::size_t s = first; s < first + count; ++s) total += lengths_[s];
    return {data, dtype_, {total, num_heads_, head_dim_}, {token_stride_, head_stride_, 1}, {}};
  }
  const std::int64_t length = lengths_.empty() ? 0 : lengths_.front();
  const std::int64_t batch_stride = lengths_.size() > 1 ? first_[1] : length * token_stride_;
  return {data,
          dtype_,
          {static_cast<std::int64_t>(count), length, num_heads_, head_dim_},
          {batch_stride, token_stride_, head_stride_, 1},
          {}};
}

TensorView Operand::swap_heads(const TensorView& rows) {
  const int heads = rows.num_axes() - 2;
  TensorView result = rows;
  if (heads == 2) {
    result.shape = {rows.size(0), rows.size(2), rows.size(1)};
    result.strides = {rows.stride(0), rows.stride(2), rows.stride(1)};
  } else {
    result.shape = {rows.size(1), rows.size(0)};
    result.strides = {rows.stride(1), rows.stride(0)};
  }
  return result;
}

}  // namespace perpend
