#include "perpend/train/model_folder.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "perpend/core/error.h"
#include "perpend/io/atomic_file.h"
#include "perpend/io/atomic_folder.h"
#include "perpend/io/json_text.h"
#include "perpend/io/safetensors_folder_writer.h"
#include "perpend/io/text_file.h"
#include "perpend/models/convert/hugging_face_folder.h"
#include "perpend/models/diffusion_config.h"
#include "perpend/models/longgen_config.h"
#include "perpend/models/rotary_rows.h"

namespace perpend {
namespace {

void write_weights(const std::string& folder, const DifferentiableModel& model) {
  std::vector<TensorSpec> specs;
  for (const auto& [parts, tensor] : model.named_parameters()) {
    for (const NamedParameter::Part& part : parts) {
      std::vector<std::int64_t> shape = tensor.sizes().vec();
      shape[0] = part.num_rows;
      specs.push_back({part.name, float_format_of(tensor), shape});
    }
  }
  SafetensorsFolderWriter writer(folder, {{"format", "pt"}}, specs);
  for (const auto& [parts, tensor] : model.named_parameters()) {
    for (const NamedParameter::Part& part : parts) {
      torch::Tensor rows = tensor.detach().narrow(0, part.first_row, part.num_rows).cpu();
      if (is_of_turned_rows(part.name)) rows = to_half_split(rows, model.config());
      rows = rows.contiguous();
      writer.write(part.name, {static_cast<const std::byte*>(rows.data_ptr()), rows.nbytes()});
    }
  }
  writer.finish();
}

// The source's config.json may say other numbers than the model was trained with.
void write_config(const std::string& path, const std::string& text, const ModelConfig& config,
                  const std::string& diffusion_text, const torch::Tensor& matrix) {
  nlohmann::json json = parse_json_object(text, path);
  json["max_position_embeddings"] = config.context_length;
  json["rope_theta"] = config.rotary.theta;
  if (json.contains("rope_parameters") && json["rope_parameters"].is_object()) {
    json["rope_parameters"]["rope_theta"] = config.rotary.theta;
  }
  json["num_hidden_layers"] = config.num_layers;
  if (config.longgen) json["longgen"] = longgen_json(*config.longgen);
  if (config.diffusion) json["diffusion"] = diffusion_json(*config.diffusion);
  if (config.blockrank) json["blockrank"] = blockrank_json(*config.blockrank);
  if (!diffusion_text.empty()) json["diffusion"] = parse_json_object(diffusion_text, path);
  json["torch_dtype"] = matrix.scalar_type() == torch::kFloat32 ? "float32" : "bfloat16";
  AtomicFile file(path);
  file.write(json_document(json, path));
  file.commit();
}

}  // namespace

BlockFormat float_format_of(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat32:
      return BlockFormat::kF32;
    case torch::kBFloat16:
      return BlockFormat::kBF16;
    case torch::kFloat16:
      return BlockFormat::kF16;
    default:
      throw Unsupported(concat("model folder: no format for ", tensor.scalar_type()));
  }
}

void write_model_folder(const std::string& folder, const DifferentiableModel& model,
                        const ModelTexts& texts) {
  AtomicFolder target(folder);
  const std::string& staging = target.staging_path();
  std::string config_json = texts.config_json;
  if (texts.source != nullptr) {
    const TensorPlan plan =
        plan_tensors(*texts.source, model.config(), Checkpoint::Kind::kHuggingFace, {});
    std::vector<std::string> notes;
    write_text_files(*texts.source, model.config(), plan, {}, staging, notes);
    config_json = read_text_file(staging + "/config.json");
  }
  write_config(staging + "/config.json", config_json, model.config(), texts.diffusion_json,
               model.head_weight());
  write_weights(staging, model);
  target.commit([](std::string_view name) { return is_model_file(name); });
}

}  // namespace perpend
