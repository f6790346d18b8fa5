#include "perpend/models/convert/tensor_copy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "perpend/core/error.h"

namespace perpend {
namespace {

constexpr std::int64_t kPieceValues = 1 << 21;
constexpr std::int64_t kThreadValues = 1 << 15;

// A tensor as rows that are converted and moved one by one.
struct Rows {
  std::int64_t count;
  std::int64_t values;  // a row
};

Rows rows_of(const TensorStep& step) {
  const std::vector<std::int64_t>& shape = step.target.shape;
  std::int64_t count = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) count *= shape[i];
  const std::int64_t last = shape.empty() ? 1 : shape.back();
  // A bias of q or k: its values move as the rows of the matrix do.
  if (shape.size() == 1 && step.order != RowOrder::kSame) return {last, 1};
  return {count, last};
}

// Which row of the source becomes row `row` of the target.
std::int64_t source_row(RowOrder order, std::int64_t row, std::int64_t head_dim) {
  if (order == RowOrder::kSame) return row;
  const std::int64_t in_head = row % head_dim;
  const std::int64_t half = head_dim / 2;
  const std::int64_t source = order == RowOrder::kInterleaved ? in_head % 2 * half + in_head / 2
                                                              : in_head % half * 2 + in_head / half;
  return row - in_head + source;
}

class RowConverter {
 public:
  explicit RowConverter(const TensorStep& step)
      : from_(step.source.format),
        to_(step.target.format),
        name_(step.target.name),
        values_(static_cast<std::size_t>(rows_of(step).values)),
        result_(values_.size()) {}

  void run(std::span<const std::byte> source, std::span<std::byte> target) {
    if (from_ == to_) {
      std::memcpy(target.data(), source.data(), target.size());
      return;
    }
    dequantize_row(from_, source, values_);
    quantize_row(to_, values_, target);
    if (to_ != BlockFormat::kF32) check_range(target);
  }

 private:
  // The float formats hold infinities and NaN, but none may come from a number; block formats hold
  // neither.
  void check_range(std::span<const std::byte> target) {
    const bool is_block_format = info_of(to_).block_size > 1;
    dequantize_row(to_, target, result_);
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const bool expects_finite = is_block_format || std::isfinite(values_[i]);
      if (expects_finite && !(std::isfinite(values_[i]) && std::isfinite(result_[i]))) {
        throw InvalidArgument(concat("tensor '", name_, "': ", to_, " can not hold the value ",
                                     *largest(), "; bf16 and f32 can"));
      }
    }
  }

  std::vector<float>::const_iterator largest() const {
    return std::max_element(values_.begin(), values_.end(), [](float a, float b) {
      return std::abs(a) < std::abs(b) || (!std::isnan(a) && std::isnan(b));
    });
  }

  BlockFormat from_;
  BlockFormat to_;
  const std::string& name_;
  std::vector<float> values_;
  std::vector<float> result_;
};

}  // namespace

bool TensorCopy::run(const TensorStep& step, Write write, Advance advance) {
  const Rows rows = rows_of(step);
  const std::size_t source_bytes = row_bytes(step.source.format, rows.values);
  const std::size_t target_bytes = row_bytes(step.target.format, rows.values);
  const std::int64_t width = std::max<std::int64_t>(1, rows.values);
  const std::int64_t piece_rows = std::max<std::int64_t>(1, kPieceValues / width);
  for (std::int64_t begin = 0; begin < rows.count; begin += piece_rows) {
    const std::int64_t count = std::min(piece_rows, rows.count - begin);
    piece_.resize(static_cast<std::size_t>(count) * target_bytes);
    threads_.parallel_for(count, std::max<std::int64_t>(1, kThreadValues / width), [&](Range part) {
      RowConverter converter(step);
      for (std::int64_t i = part.begin; i < part.end; ++i) {
        const auto from = static_cast<std::size_t>(source_row(step.order, begin + i, head_dim_));
        converter.run(
            step.source.bytes.subspan(from * source_bytes, source_bytes),
            std::span(piece_).subspan(static_cast<std::size_t>(i) * target_bytes, target_bytes));
      }
    });
    write(piece_);
    if (!advance(count * static_cast<std::int64_t>(source_bytes))) return false;
  }
  return true;
}

}  // namespace perpend
