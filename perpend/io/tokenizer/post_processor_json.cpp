#include "perpend/core/error.h"
#include "perpend/io/tokenizer/component_json.h"

namespace perpend {
namespace {

using nlohmann::json;

class PostProcessorReader {
 public:
  explicit PostProcessorReader(TokenizerPipeline& pipeline) : pipeline_(pipeline) {}

  void read(const JsonFields& fields) {
    const std::string type = fields.text("type");
    if (type == "ByteLevel") {
      read_trimmer(fields);
    } else if (type == "TemplateProcessing") {
      read_template(fields);
    } else if (type == "BertProcessing") {
      read_pair(fields);
    } else if (type == "RobertaProcessing") {
      read_trimmer(fields);
      read_pair(fields);
    } else {
      unsupported_component(fields,
                            "ByteLevel, TemplateProcessing, BertProcessing and RobertaProcessing");
    }
  }

 private:
  using Parts = std::vector<PostProcessor::Part>;

  void read_trimmer(const JsonFields& fields) {
    if (!fields.flag("trim_offsets", true)) return;
    pipeline_.post_processor.trimmers.push_back({fields.flag("add_prefix_space", true)});
  }

  void set_parts(const JsonFields& fields, Parts parts) {
    if (std::exchange(has_parts_, true)) {
      throw Unsupported(
          concat(fields.path(), ": a second template is not built; one in a Sequence is"));
    }
    pipeline_.post_processor.parts = std::move(parts);
  }

  void read_template(const JsonFields& fields) {
    const JsonFields special(fields.object("special_tokens"), fields.path() + ".special_tokens");
    Parts parts;
    std::size_t i = 0;
    for (const json& value : fields.array("single")) {
      const JsonFields piece(value, concat(fields.path(), ".single[", i++, "]"));
      if (piece.find("Sequence") != nullptr) {
        const JsonFields sequence = piece.fields("Sequence");
        if (sequence.text("id") != "A") sequence.fail("id", "A in a template of one text");
        parts.emplace_back(PostProcessor::Text{});
        continue;
      }
      const std::string name = piece.fields("SpecialToken").text("id");
      const JsonFields token = special.fields(name.c_str());
      for (const json& id : token.array("ids")) parts.emplace_back(checked(token, "ids", id));
    }
    set_parts(fields, std::move(parts));
  }

  void read_pair(const JsonFields& fields) {
    set_parts(fields, {token_of(fields, "cls"), PostProcessor::Text{}, token_of(fields, "sep")});
  }

  // ["[CLS]", 101]
  std::int32_t token_of(const JsonFields& fields, const char* key) const {
    const json& pair = fields.array(key);
    if (pair.size() != 2) fields.fail(key, "a token and its id");
    return checked(fields, key, pair[1]);
  }

  std::int32_t checked(const JsonFields& fields, const char* key, const json& id) const {
    const std::size_t size = pipeline_.entries.size();
    if (!id.is_number_integer() || id < 0 || id >= size) {
      fields.fail(key, concat("an id below ", size));
    }
    return id.get<std::int32_t>();
  }

  TokenizerPipeline& pipeline_;
  bool has_parts_ = false;
};

}  // namespace

void read_post_processor(const JsonFields& file, TokenizerPipeline& pipeline) {
  PostProcessorReader reader(pipeline);
  for_each_component(file.find("post_processor"), file.path() + ".post_processor", "processors",
                     [&](const JsonFields& fields) { reader.read(fields); });
}

}  // namespace perpend
