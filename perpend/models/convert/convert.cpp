#include "perpend/models/convert/convert.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/atomic_folder.h"
#include "perpend/io/checkpoint.h"
#include "perpend/io/gguf_writer.h"
#include "perpend/io/json_text.h"
#include "perpend/io/safetensors_folder_writer.h"
#include "perpend/models/convert/hugging_face_folder.h"
#include "perpend/models/convert/model_metadata.h"
#include "perpend/models/convert/tensor_copy.h"
#include "perpend/models/convert/tensor_plan.h"
#include "perpend/models/convert/text_conversion.h"

namespace perpend {
namespace {

namespace fs = std::filesystem;
using Kind = Checkpoint::Kind;

Kind kind_of_target(const std::string& path) {
  return path.ends_with(".gguf") ? Kind::kGguf : Kind::kHuggingFace;
}

void check_format(const ConvertOptions& options) {
  if (!options.format) return;
  const BlockFormat format = *options.format;
  check(info_of(format).can_quantize,
        concat("convert: ", format, " can be read but not written; f32, f16, bf16, q8_0, q4_0, ",
               "q4_1, q5_0 and q5_1 can"));
  check(kind_of_target(options.out) == Kind::kGguf || is_float_format(format),
        concat("convert: ", options.out, ": a Hugging Face folder holds f32, f16 and bf16, not ",
               format, "; a file ending in .gguf holds it"));
}

void check_target(const ConvertOptions& options) {
  check(!options.out.empty(), "convert: the target has no name");
  std::error_code error;
  if (!fs::exists(options.out, error)) return;
  check(!fs::equivalent(options.in, options.out, error),
        concat("convert: ", options.out, " is the source itself"));
  const bool is_folder = fs::is_directory(options.out, error);
  check(is_folder == (kind_of_target(options.out) == Kind::kHuggingFace),
        concat("convert: ", options.out, ": expected a path ending in .gguf for a file, or a ",
               "folder; found ", is_folder ? "a folder" : "a file"));
  check(options.replace || (is_folder && fs::is_empty(options.out, error)),
        concat("convert: ", options.out, " exists; --force replaces it"));
}

// What the model is called: as its configuration says, or as its folder.
std::string name_of_folder(const Checkpoint& source) {
  const auto config = parse_json_object(source.config_json(), source.path() + "/config.json");
  const auto named = config.find("_name_or_path");
  std::string name;
  if (named != config.end() && named->is_string()) {
    name = fs::path(named->get<std::string>()).filename().string();
  }
  return name.empty() ? fs::canonical(source.path()).filename().string() : name;
}

class Conversion {
 public:
  Conversion(const ConvertOptions& options, ThreadPool& threads, ConvertProgress progress)
      : options_(options),
        source_(Checkpoint::open(options.in)),
        config_(changed(read_model_config(source_), options.changes)),
        plan_(plan_tensors(source_, config_, kind_of_target(options.out), options.format)),
        copy_(config_.head_dim, threads),
        progress_(progress) {}

  std::optional<ConvertReport> run() {
    const bool finished =
        kind_of_target(options_.out) == Kind::kGguf ? write_gguf() : write_folder();
    if (!finished) return std::nullopt;
    report_.format = plan_.main_format();
    report_.num_tensors = static_cast<std::int64_t>(plan_.steps.size());
    report_.bytes_in = plan_.source_bytes();
    report_.bytes_out = plan_.target_bytes();
    return std::move(report_);
  }

 private:
  GgufMetadata gguf_metadata() {
    GgufMetadata metadata;
    if (source_.kind() == Kind::kGguf) {
      metadata.copy(source_.gguf().records());
      if (options_.format) set_file_type(plan_.main_format(), metadata);
      set_model_changes(config_, options_.changes, metadata);
      return metadata;
    }
    add_model_metadata(config_, name_of_folder(source_), metadata);
    set_file_type(plan_.main_format(), metadata);
    add_text_metadata(source_, config_, metadata, report_.notes);
    return metadata;
  }

  bool write_gguf() {
    GgufWriter writer(options_.out, gguf_metadata(), plan_.targets());
    if (!write_tensors(writer)) return false;
    writer.finish();
    return true;
  }

  bool write_folder() {
    AtomicFolder folder(options_.out);
    write_text_files(source_, config_, plan_, options_.changes, folder.staging_path(),
                     report_.notes);
    SafetensorsFolderWriter writer(folder.staging_path(), {{"format", "pt"}}, plan_.targets());
    if (!write_tensors(writer)) return false;
    writer.finish();
    folder.commit([](std::string_view name) { return is_model_file(name); });
    return true;
  }

  template <class Writer>
  bool write_tensors(Writer& writer) {
    const std::int64_t total = plan_.source_bytes();
    std::int64_t done = 0;
    const auto advance = [&](std::int64_t bytes) { return progress_(done += bytes, total); };
    for (const TensorStep& step : plan_.steps) {
      const auto write = [&](std::span<const std::byte> bytes) {
        writer.write(step.target.name, bytes);
      };
      if (!copy_.run(step, write, advance)) return false;
    }
    return true;
  }

  const ConvertOptions& options_;
  Checkpoint source_;
  ModelConfig config_;
  TensorPlan plan_;
  TensorCopy copy_;
  ConvertProgress progress_;
  ConvertReport report_;
};

}  // namespace

std::optional<ConvertReport> convert_checkpoint(const ConvertOptions& options, ThreadPool& threads,
                                                ConvertProgress progress) {
  check_format(options);
  check_target(options);
  return Conversion(options, threads, progress).run();
}

}  // namespace perpend
