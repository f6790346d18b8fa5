#include "perpend/io/tokenizer/tokenizer_components.h"

#include <string>

namespace perpend {
namespace {

using nlohmann::json;

constexpr const char* kSpace = "\xE2\x96\x81";  // U+2581

json sequence(const char* list, json parts) {
  return {{"type", "Sequence"}, {list, std::move(parts)}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json replace(const char* pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
}

json metaspace(const char* scheme) {
  return {
      {"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", scheme}, {"split", false}};
}

json sentence_piece_decoder(bool add_space_prefix) {
  json parts = {replace(kSpace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (add_space_prefix) {
    parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return sequence("decoders", std::move(parts));
}

// A component with the fields that older files leave out, without those that change no ids.
json usual_form(json component) {
  const std::string type = component.value("type", "");
  const auto fill = [&](const char* key, const json& otherwise) {
    if (!component.contains(key) || component[key].is_null()) component[key] = otherwise;
  };
  component.erase("trim_offsets");
  if (type == "ByteLevel") fill("use_regex", true);
  if (type == "Split") fill("invert", false);
  if (type == "Digits") fill("individual_digits", false);
  if (type == "Metaspace") {
    const bool adds = component.value("add_prefix_space", true);
    fill("prepend_scheme", adds ? "always" : "never");
    fill("split", true);
    component.erase("add_prefix_space");
    component.erase("str_rep");
  }
  return component;
}

json flattened(const json* component, const std::string& path, const char* list) {
  json parts = json::array();
  if (component == nullptr || component->is_null()) return parts;
  for_each_component(component, path, list, [&](const JsonFields& fields) {
    parts.push_back(usual_form(fields.value()));
  });
  return parts;
}

}  // namespace

TokenizerComponents byte_level_components(const GgufPreTokenizer& kind) {
  json steps = json::array();
  if (kind.digits_alone) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  const bool is_gpt2 = kind.scanner == WordScanner::kGpt2;
  if (!is_gpt2) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", regex_of(kind.scanner)}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(is_gpt2));
  TokenizerComponents components;
  if (kind.nfc) components.normalizer = {{"type", "NFC"}};
  components.pre_tokenizer = steps.size() == 1 ? steps[0] : sequence("pretokenizers", steps);
  components.decoder = byte_level(true);
  return components;
}

TokenizerComponents sentence_piece_components(bool add_space_prefix) {
  json steps = json::array();
  if (add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  steps.push_back(replace(" ", kSpace));
  return {.normalizer = sequence("normalizers", std::move(steps)),
          .pre_tokenizer = nullptr,
          .decoder = sentence_piece_decoder(add_space_prefix)};
}

std::vector<TokenizerComponents> metaspace_components(bool add_space_prefix) {
  const auto spelled = [&](const char* scheme) {
    return TokenizerComponents{.normalizer = nullptr,
                               .pre_tokenizer = metaspace(scheme),
                               .decoder = sentence_piece_decoder(add_space_prefix)};
  };
  if (add_space_prefix) return {spelled("first"), spelled("always")};
  return {spelled("never")};
}

bool has_components(const JsonFields& file, const TokenizerComponents& components) {
  const auto same = [&](const char* key, const char* list, const json& expected) {
    return flattened(file.find(key), file.path() + "." + key, list) ==
           flattened(&expected, key, list);
  };
  return same("normalizer", "normalizers", components.normalizer) &&
         same("pre_tokenizer", "pretokenizers", components.pre_tokenizer);
}

}  // namespace perpend
