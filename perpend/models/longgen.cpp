#include "perpend/models/longgen.h"

#include <algorithm>
#include <array>
#include <optional>

#include "perpend/core/error.h"
#include "perpend/mask/text_reader.h"

namespace perpend {
namespace {

constexpr std::int64_t kMostBlocks = 1 << 20;
constexpr std::int64_t kMostLayers = 1 << 24;

constexpr std::array kFields = {
    LongGenField{"block_size", "block", &LongGen::block_size, 1, kMostBlocks},
    LongGenField{"n_full", "n_full", &LongGen::n_full, 0, kMostLayers},
    LongGenField{"lo", "lo", &LongGen::lo, 0, kMostLayers},
    LongGenField{"sink_blocks", "sink", &LongGen::sink_blocks, 0, kMostBlocks},
    LongGenField{"window_blocks", "window", &LongGen::window_blocks, 1, kMostBlocks},
    LongGenField{"stride_blocks", "stride", &LongGen::stride_blocks, 0, kMostBlocks},
    LongGenField{"head_shift", "head_shift", &LongGen::head_shift, 0, kMostBlocks},
};

std::string expected_range(const LongGenField& field) {
  return concat("expected an integer from ", field.least, " to ", field.most);
}

class PresetReader {
 public:
  PresetReader(std::string_view text, int num_layers, int num_kv_heads)
      : reader_(text, "preset"), num_layers_(num_layers), num_kv_heads_(num_kv_heads) {}

  LongGen read() {
    longgen_ = default_longgen(variant(), num_layers_);
    if (reader_.accept('(') && !reader_.accept(')')) parameters();
    reader_.expect_end("the end of the preset");
    if (!given(&LongGen::lo)) longgen_.lo = hourglass_start(longgen_.n_full, num_layers_);
    if (automatic_shift_) {
      longgen_.head_shift =
          std::max<std::int64_t>(1, longgen_.stride_blocks / std::max(1, num_kv_heads_));
    }
    const std::string fault = longgen_fault(longgen_, num_layers_);
    if (!fault.empty()) throw InvalidArgument(concat("preset: ", fault));
    return longgen_;
  }

 private:
  LongGen::Variant variant() {
    reader_.skip_blanks();
    const std::size_t begin = reader_.position();
    const bool is_longgen = reader_.word() == "longgen" && reader_.accept('-');
    const std::string_view which = is_longgen ? reader_.word() : "";
    if (which == "as") return LongGen::Variant::kSink;
    if (which == "bs") return LongGen::Variant::kStrided;
    reader_.fail_at(begin, concat("expected longgen-as or longgen-bs, found '",
                                  reader_.text().substr(begin, 40), "'"));
  }

  void parameters() {
    do {
      parameter();
    } while (reader_.accept(','));
    reader_.expect(')', "after the parameters");
  }

  void parameter() {
    reader_.skip_blanks();
    const std::size_t begin = reader_.position();
    const std::string_view name = reader_.word();
    const auto* field = std::ranges::find(kFields, name, &LongGenField::name);
    if (field == kFields.end()) {
      std::string known;
      for (const LongGenField& each : kFields)
        known += concat(known.empty() ? "" : ", ", each.name);
      reader_.fail_at(begin, concat("expected one of ", known, "; found '",
                                    reader_.text().substr(begin, 40), "'"));
    }
    if (given(field->value)) reader_.fail_at(begin, concat(name, " is given twice"));
    given_.push_back(field->value);
    reader_.expect('=', concat("after ", name));
    value(*field);
  }

  void value(const LongGenField& field) {
    reader_.skip_blanks();
    const std::size_t begin = reader_.position();
    if (field.value == &LongGen::head_shift && reader_.word() == "auto") {
      automatic_shift_ = true;
      return;
    }
    reader_.move_to(begin);
    const std::int64_t number = reader_.integer();
    if (number < field.least || number > field.most) {
      reader_.fail_at(begin, concat(field.name, ": ", expected_range(field), ", found ", number));
    }
    longgen_.*field.value = number;
  }

  bool given(std::int64_t LongGen::*value) const {
    return std::find(given_.begin(), given_.end(), value) != given_.end();
  }

  TextReader reader_;
  int num_layers_;
  int num_kv_heads_;
  LongGen longgen_;
  bool automatic_shift_ = false;
  std::vector<std::int64_t LongGen::*> given_;
};

}  // namespace

std::span<const LongGenField> longgen_fields() { return kFields; }

std::string_view name_of(LongGen::Variant variant) {
  return variant == LongGen::Variant::kSink ? "as" : "bs";
}

std::ostream& operator<<(std::ostream& out, const LongGen& longgen) {
  out << "longgen-" << name_of(longgen.variant) << "(";
  std::string_view comma;
  for (const LongGenField& field : kFields) {
    out << comma << field.name << "=" << longgen.*field.value;
    comma = ", ";
  }
  return out << ")";
}

LongGen default_longgen(LongGen::Variant variant, int num_layers) {
  LongGen longgen;
  longgen.variant = variant;
  longgen.n_full = (6 * static_cast<std::int64_t>(num_layers) + 8) / 16;
  longgen.lo = hourglass_start(longgen.n_full, num_layers);
  if (variant == LongGen::Variant::kSink) {
    longgen.sink_blocks = 1;
    longgen.window_blocks = 31;
  } else {
    longgen.window_blocks = 16;
    longgen.stride_blocks = 128;
  }
  return longgen;
}

std::int64_t hourglass_start(std::int64_t n_full, int num_layers) {
  return std::max<std::int64_t>(0, (num_layers - n_full) / 2);
}

LongGen parse_preset(std::string_view text, int num_layers, int num_kv_heads) {
  return PresetReader(text, num_layers, num_kv_heads).read();
}

std::string longgen_fault(const LongGen& longgen, int num_layers) {
  const auto fault = [](std::string_view key, const auto&... expected) {
    return concat("longgen.", key, ": ", expected...);
  };
  for (const LongGenField& field : kFields) {
    const std::int64_t value = longgen.*field.value;
    if (value < field.least || value > field.most) {
      return fault(field.key, expected_range(field), ", found ", value);
    }
  }
  if (longgen.n_full > num_layers) {
    return fault("n_full", "expected at most ", num_layers, " (layers), found ", longgen.n_full);
  }
  if (longgen.lo + longgen.n_full > num_layers) {
    return fault("lo", "expected at most ", num_layers - longgen.n_full,
                 " (layers less n_full), found ", longgen.lo);
  }
  const bool strided = longgen.variant == LongGen::Variant::kStrided;
  if (strided && longgen.stride_blocks == 0) {
    return fault("stride_blocks", "expected at least 1 for the variant bs, found 0");
  }
  if (!strided && longgen.stride_blocks != 0) {
    return fault("stride_blocks", "expected 0 for the variant as, found ", longgen.stride_blocks);
  }
  if (!strided && longgen.head_shift != 0) {
    return fault("head_shift", "expected 0 for the variant as, found ", longgen.head_shift);
  }
  return "";
}

Mask sparse_mask(const LongGen& longgen) {
  if (longgen.variant == LongGen::Variant::kSink) {
    return parse_mask(concat("longgen_sink(", longgen.block_size, ", ", longgen.sink_blocks, ", ",
                             longgen.window_blocks, ")"));
  }
  return parse_mask(concat("longgen_strided(", longgen.block_size, ", ", longgen.window_blocks,
                           ", ", longgen.stride_blocks, ", ", longgen.head_shift, ", ",
                           longgen.sink_blocks, ")"));
}

std::vector<Mask> layer_masks(const LongGen& longgen, int num_layers) {
  const Mask sparse = sparse_mask(longgen);
  std::vector<Mask> masks;
  for (int layer = 0; layer < num_layers; ++layer) {
    masks.push_back(longgen.is_full(layer) ? Mask::causal() : sparse);
  }
  return masks;
}

}  // namespace perpend
