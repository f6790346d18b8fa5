#include "perpend/io/tokenizer/component_json.h"

namespace perpend {
namespace {

constexpr std::int64_t kMaxStripped = 1 << 20;

DecoderStep read_metaspace(const JsonFields& fields) {
  const bool adds = fields.flag("add_prefix_space", true);
  const bool never = fields.text("prepend_scheme", adds ? "always" : "never") == "never";
  return metaspace_decoder(fields.character("replacement"), !never);
}

DecoderStep read_strip(const JsonFields& fields) {
  const auto count = [&](const char* key) {
    return static_cast<std::size_t>(fields.integer(key, 0, kMaxStripped));
  };
  return strip_decoder(fields.character("content"), count("start"), count("stop"));
}

DecoderStep read_step(const JsonFields& fields) {
  const std::string type = fields.text("type");
  if (type == "ByteLevel") return byte_level_decoder();
  if (type == "ByteFallback") return byte_fallback_decoder();
  if (type == "Fuse") return fuse_decoder();
  if (type == "Metaspace") return read_metaspace(fields);
  if (type == "Strip") return read_strip(fields);
  if (type == "Replace") return replace_decoder(read_pattern(fields), fields.text("content"));
  if (type == "BPEDecoder") return bpe_decoder(fields.text("suffix", "</w>"));
  if (type == "WordPiece") {
    return wordpiece_decoder(fields.text("prefix", "##"), fields.flag("cleanup", true));
  }
  unsupported_component(fields,
                        "ByteLevel, ByteFallback, Fuse, Metaspace, Strip, Replace, BPEDecoder and "
                        "WordPiece");
}

}  // namespace

void read_decoder(const JsonFields& file, TokenizerPipeline& pipeline) {
  const nlohmann::json* decoder = file.find("decoder");
  for_each_component(decoder, file.path() + ".decoder", "decoders", [&](const JsonFields& fields) {
    pipeline.decoder.push_back(read_step(fields));
    const std::string type = fields.text("type");
    if (type == "ByteLevel") pipeline.byte_spelling = ByteSpelling::kAlphabet;
    if (type == "ByteFallback") pipeline.byte_spelling = ByteSpelling::kTokens;
  });
  if (decoder == nullptr) pipeline.decoder.push_back(join_decoder(" "));
}

}  // namespace perpend
