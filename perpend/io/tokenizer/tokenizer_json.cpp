#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/json_text.h"
#include "perpend/io/tokenizer/tokenizer.h"
#include "perpend/io/tokenizer/tokenizer_pipeline.h"

namespace perpend {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxId = 1 << 24;

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class JsonReader {
 public:
  JsonReader(const json& object, const std::string& name) : object_(object), name_(name) {}

  std::unique_ptr<TokenizerPipeline> read() {
    pipeline_ = std::make_unique<TokenizerPipeline>();
    pipeline_->name = name_;
    const json& model = member(object_, "model", json::value_t::object);
    const std::string type = text(model, "type", "BPE");
    if (type != "BPE") {
      throw Unsupported(concat(name_, ": model type '", type, "' is not built; BPE is"));
    }
    read_pre_tokenizer();
    read_normalizer();
    read_vocabulary(model);
    read_added_tokens();
    pipeline_->finish();
    read_merges(model);
    read_post_processor();
    return std::move(pipeline_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw IoError(concat(name_, ": ", what));
  }

  const json& member(const json& object, const char* key, json::value_t type) const {
    if (!object.is_object() || !object.contains(key)) fail(concat("key '", key, "' is missing"));
    if (object[key].type() != type) {
      fail(concat("key '", key, "': expected another type than ", object[key].type_name()));
    }
    return object[key];
  }
  static std::string text(const json& object, const char* key, const char* otherwise) {
    return object.contains(key) && object[key].is_string() ? object[key].get<std::string>()
                                                           : otherwise;
  }
  static bool flag(const json& object, const char* key, bool otherwise) {
    return object.contains(key) && object[key].is_boolean() ? object[key].get<bool>() : otherwise;
  }
  std::int32_t id_of(const json& value, const std::string& token) const {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
        value.get<std::int64_t>() >= kMaxId) {
      fail(concat("token '", token.substr(0, 100), "': expected an id below ", kMaxId));
    }
    return value.get<std::int32_t>();
  }
  [[noreturn]] void unsupported(const char* part, const json& value) const {
    throw Unsupported(
        concat(name_, ": this ", part, " is not built: ", value.dump().substr(0, 200)));
  }

  // A component, or the parts of a Sequence.
  static std::vector<json> parts_of(const json& component, const char* list) {
    if (component.is_null()) return {};
    if (text(component, "type", "") != "Sequence") return {component};
    if (!component.contains(list) || !component[list].is_array()) return {component};
    return component[list].get<std::vector<json>>();
  }

  void read_pre_tokenizer() {
    const json component = object_.value("pre_tokenizer", json());
    const auto parts = parts_of(component, "pretokenizers");
    const auto is = [&](std::size_t i, const char* type) {
      return i < parts.size() && text(parts[i], "type", "") == type;
    };
    const bool plain = parts.size() == 1 && is(0, "ByteLevel") &&
                       flag(parts[0], "use_regex", true) &&
                       !flag(parts[0], "add_prefix_space", false);
    if (plain) {
      pipeline_->pre_tokenizer = PreTokenizer::kGpt2;
    } else if (parts.size() == 2 && is(0, "Digits") && flag(parts[0], "individual_digits", false) &&
               is(1, "ByteLevel") && flag(parts[1], "use_regex", true) &&
               !flag(parts[1], "add_prefix_space", false)) {
      pipeline_->pre_tokenizer = PreTokenizer::kSmolLm;
    } else if (parts.size() == 2 && is(0, "Split") && is(1, "ByteLevel") &&
               !flag(parts[1], "use_regex", true) && !flag(parts[1], "add_prefix_space", false) &&
               text(parts[0], "behavior", "") == "Isolated" && !flag(parts[0], "invert", false)) {
      const std::string pattern = parts[0].value("pattern", json::object()).value("Regex", "");
      if (pattern == kLlama3Pattern) {
        pipeline_->pre_tokenizer = PreTokenizer::kLlama3;
      } else if (pattern == kQwen2Pattern) {
        pipeline_->pre_tokenizer = PreTokenizer::kQwen2;
      } else {
        unsupported("pre_tokenizer", component);
      }
    } else {
      unsupported("pre_tokenizer", component);
    }
  }

  void read_normalizer() {
    for (const json& part : parts_of(object_.value("normalizer", json()), "normalizers")) {
      if (text(part, "type", "") != "NFC") unsupported("normalizer", part);
      pipeline_->normalize_nfc = true;
    }
  }

  void read_vocabulary(const json& model) {
    for (const auto& [token, id] : member(model, "vocab", json::value_t::object).items()) {
      pipeline_->add_entry(id_of(id, token), token, false, false);
    }
  }

  void read_added_tokens() {
    if (!object_.contains("added_tokens")) return;
    for (const json& token : member(object_, "added_tokens", json::value_t::array)) {
      const std::string content = text(token, "content", "");
      if (content.empty()) fail("added_tokens: a token without content");
      if (flag(token, "lstrip", false) || flag(token, "rstrip", false) ||
          flag(token, "single_word", false)) {
        unsupported("added token", token);
      }
      pipeline_->add_entry(id_of(token.value("id", json()), content), content,
                           flag(token, "special", false), true);
    }
  }

  void read_merges(const json& model) {
    const json& merges = member(model, "merges", json::value_t::array);
    pipeline_->merger.reserve(merges.size());
    for (const json& merge : merges) {
      // "left right", or since version 0.20 a list of the two.
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        pipeline_->add_merge(merge[0].get<std::string>(), merge[1].get<std::string>());
        continue;
      }
      const std::string pair = merge.is_string() ? merge.get<std::string>() : "";
      const std::size_t blank = pair.find(' ', 1);
      if (pair.empty() || blank == std::string::npos) {
        fail(concat("merge ", merge.dump().substr(0, 100), ": expected two tokens"));
      }
      pipeline_->add_merge(std::string_view(pair).substr(0, blank),
                           std::string_view(pair).substr(blank + 1));
    }
  }

  // ByteLevel (offsets only) and a template of one special token before the text.
  void read_post_processor() {
    for (const json& part : parts_of(object_.value("post_processor", json()), "processors")) {
      const std::string type = text(part, "type", "");
      if (type == "ByteLevel") continue;
      if (type != "TemplateProcessing") unsupported("post_processor", part);
      const json single = part.value("single", json::array());
      const bool leads = single.size() == 2 && single[0].contains("SpecialToken") &&
                         single[1].contains("Sequence");
      if (!leads) unsupported("post_processor", part);
      pipeline_->bos_id = pipeline_->require_id(text(single[0]["SpecialToken"], "id", ""));
      pipeline_->add_bos = true;
    }
  }

  const json& object_;
  const std::string& name_;
  std::unique_ptr<TokenizerPipeline> pipeline_;
};

}  // namespace

Tokenizer load_tokenizer_json(std::string_view json_text, std::string name) {
  try {
    return Tokenizer(JsonReader(parse_json_object(json_text, name), name).read());
  } catch (const json::exception& error) {
    throw IoError(concat(name, ": ", error.what()));
  }
}

}  // namespace perpend
