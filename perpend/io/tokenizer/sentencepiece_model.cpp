#include "perpend/io/tokenizer/sentencepiece_model.h"

#include <cstring>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/io/byte_reader.h"
#include "perpend/io/tokenizer/gguf_tokenizer.h"

namespace perpend {
namespace {

using Bytes = std::span<const std::byte>;

// Numbers of fields and enumerators of sentencepiece_model.proto.
constexpr std::uint64_t kPieces = 1;
constexpr std::uint64_t kTrainerSpec = 2;
constexpr std::uint64_t kNormalizerSpec = 3;
constexpr std::uint64_t kBpe = 2;

// A field of a message: a number, or the bytes of a text, a message or a float.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;
  Bytes bytes;
};

}  // namespace

// The fields of a message, one after another.
class SentencePieceModel::Reader {
 public:
  Reader(Bytes message, std::string_view name) : reader_(message, name) {}

  std::optional<Field> next() {
    if (reader_.rest().empty()) return std::nullopt;
    const std::uint64_t key = varint();
    Field field{.number = key >> 3, .value = 0, .bytes = {}};
    switch (key & 7) {
      case 0:
        field.value = varint();
        return field;
      case 1:
        field.bytes = reader_.take(8, "field");
        return field;
      case 2:
        field.bytes = reader_.take(varint(), "field");
        return field;
      case 5:
        field.bytes = reader_.take(4, "field");
        return field;
      default:
        reader_.fail("field", concat("wire type ", key & 7, " is none of a SentencePiece model"));
    }
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = std::to_integer<std::uint64_t>(reader_.take(1, "number").front());
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    reader_.fail("number", "expected at most 64 bits");
  }

  ByteReader reader_;
};

SentencePieceModel::SentencePieceModel(Bytes bytes, std::string name) : name_(std::move(name)) {
  Reader reader(bytes, name_);
  while (const auto field = reader.next()) {
    if (field->number == kPieces) read_piece(field->bytes);
    if (field->number == kTrainerSpec) read_trainer(field->bytes);
    if (field->number == kNormalizerSpec) read_normalizer(field->bytes);
  }
  if (pieces_.empty()) throw IoError(concat(name_, ": expected pieces of a SentencePiece model"));
  if (!is_bpe_) {
    throw Unsupported(concat(name_, ": SentencePiece models other than BPE are not built"));
  }
  if (removes_blanks_) {
    throw Unsupported(concat(name_, ": SentencePiece models that remove blanks are not built"));
  }
}

void SentencePieceModel::read_piece(Bytes message) {
  std::string text;
  float score = 0;
  std::uint64_t type = 1;
  Reader reader(message, name_);
  while (const auto field = reader.next()) {
    if (field->number == 1) {
      text.assign(reinterpret_cast<const char*>(field->bytes.data()), field->bytes.size());
    } else if (field->number == 2 && field->bytes.size() == sizeof(score)) {
      std::memcpy(&score, field->bytes.data(), sizeof(score));
    } else if (field->number == 3) {
      type = field->value;
    }
  }
  if (type < 1 || type > 6) {
    throw IoError(concat(name_, ": type of a piece: expected 1 to 6, found ", type));
  }
  pieces_.push_back(std::move(text));
  scores_.push_back(score);
  types_.push_back(static_cast<std::int32_t>(type));
}

void SentencePieceModel::read_trainer(Bytes message) {
  Reader reader(message, name_);
  while (const auto field = reader.next()) {
    const auto value = static_cast<std::int64_t>(field->value);
    if (field->number == 3) is_bpe_ = field->value == kBpe;
    if (field->number == 40) unk_id_ = value;
    if (field->number == 41) bos_id_ = value;
    if (field->number == 42) eos_id_ = value;
  }
}

void SentencePieceModel::read_normalizer(Bytes message) {
  Reader reader(message, name_);
  while (const auto field = reader.next()) {
    if (field->number == 2 && !field->bytes.empty()) {
      throw Unsupported(concat(name_,
                               ": normalizers of SentencePiece models are not built; "
                               "identity is"));
    }
    if (field->number == 3) add_space_prefix_ = field->value != 0;
    if (field->number == 4) removes_blanks_ = field->value != 0;
  }
}

void SentencePieceModel::set_token(std::int32_t id, const std::string& text, bool special) {
  if (id < 0 || id > num_tokens()) {
    throw IoError(concat(name_, ": added token '", text, "': expected an id from 0 to ",
                         num_tokens(), ", found ", id));
  }
  const auto index = static_cast<std::size_t>(id);
  if (id == num_tokens()) {
    pieces_.emplace_back();
    scores_.push_back(0);
    types_.push_back(0);
  }
  pieces_[index] = text;
  const GgufTokenType type = special ? GgufTokenType::kControl : GgufTokenType::kUserDefined;
  types_[index] = static_cast<std::int32_t>(type);
}

Tokenizer SentencePieceModel::tokenizer(bool add_bos, bool add_eos) const {
  const std::vector<std::string_view> tokens(pieces_.begin(), pieces_.end());
  const auto id_or_none = [](std::int64_t id) {
    return id < 0 ? std::nullopt : std::optional(id);  // -1 says that there is none
  };
  return Tokenizer(GgufTokenizerData{.name = name_,
                                     .model = "llama",
                                     .pre = {},
                                     .tokens = tokens,
                                     .token_types = types_,
                                     .scores = scores_,
                                     .merges = {},
                                     .bos_id = id_or_none(bos_id_),
                                     .eos_id = id_or_none(eos_id_),
                                     .unk_id = id_or_none(unk_id_),
                                     .pad_id = {},
                                     .sep_id = {},
                                     .cls_id = {},
                                     .add_bos = add_bos,
                                     .add_eos = add_eos,
                                     .add_space_prefix = add_space_prefix_});
}

}  // namespace perpend
