#include "perpend/kernels/reference/operand.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "perpend/core/half.h"

namespace perpend {
namespace {

double load(DType dtype, const std::byte* data, std::int64_t index) {
  switch (dtype) {
    case DType::kF64:
      return reinterpret_cast<const double*>(data)[index];
    case DType::kF32:
      return reinterpret_cast<const float*>(data)[index];
    case DType::kF16:
      return f16_to_f32(reinterpret_cast<const std::uint16_t*>(data)[index]);
    case DType::kBF16:
      return bf16_to_f32(reinterpret_cast<const std::uint16_t*>(data)[index]);
    default:
      bug("operand: not a float type");
  }
}

void store(DType dtype, std::byte* data, std::int64_t index, double value) {
  const auto narrow = static_cast<float>(value);
  switch (dtype) {
    case DType::kF64:
      reinterpret_cast<double*>(data)[index] = value;
      return;
    case DType::kF32:
      reinterpret_cast<float*>(data)[index] = narrow;
      return;
    case DType::kF16:
      reinterpret_cast<std::uint16_t*>(data)[index] = f32_to_f16(narrow);
      return;
    case DType::kBF16:
      reinterpret_cast<std::uint16_t*>(data)[index] = f32_to_bf16(narrow);
      return;
    default:
      bug("operand: not a float type");
  }
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
  for (std::int64_t i = 0; i <= size; ++i) {
    store(dtype_, bytes_.data(), i, std::numeric_limits<double>::quiet_NaN());
  }
}

void Operand::fill_random(Random& random, double amplitude) {
  for (std::size_t s = 0; s < lengths_.size(); ++s) {
    for (std::int64_t t = 0; t < lengths_[s]; ++t) {
      for (int h = 0; h < num_heads_; ++h) {
        for (std::int64_t d = 0; d < head_dim_; ++d) {
          set(s, t, h, d, amplitude * (2 * random.next_double() - 1));
        }
      }
    }
  }
}

double Operand::get(std::size_t sequence, std::int64_t token, int head, std::int64_t d) const {
  return load(dtype_, bytes_.data(), index(sequence, token, head) + d);
}

void Operand::set(std::size_t sequence, std::int64_t token, int head, std::int64_t d,
                  double value) {
  store(dtype_, bytes_.data(), index(sequence, token, head) + d, value);
}

std::vector<double> Operand::rows(std::size_t sequence, int head) const {
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(lengths_[sequence] * head_dim_));
  for (std::int64_t t = 0; t < lengths_[sequence]; ++t) {
    for (std::int64_t d = 0; d < head_dim_; ++d) values.push_back(get(sequence, t, head, d));
  }
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
  std::vector<bool> owned(static_cast<std::size_t>(size));
  for (std::size_t s = 0; s < lengths_.size(); ++s) {
    for (std::int64_t t = 0; t < lengths_[s]; ++t) {
      for (int h = 0; h < num_heads_; ++h) {
        const auto begin = owned.begin() + index(s, t, h);
        std::fill(begin, begin + head_dim_, true);
      }
    }
  }
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    if (!owned[static_cast<std::size_t>(i)] && !std::isnan(load(dtype_, bytes_.data(), i))) ++count;
  }
  return count;
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
