#include "perpend/cli/report.h"

#include <array>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace perpend {

std::string bytes_text(std::int64_t num_bytes) {
  constexpr std::array<const char*, 4> kUnits = {"B", "KiB", "MiB", "GiB"};
  auto value = static_cast<double>(num_bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string report_line(const GenerateResult& result) {
  const std::int64_t saved = result.kv_exact_bytes - result.kv_bytes;
  return fmt::format(
      "[{} prompt tokens, {} new{}, first after {:.0f} ms, prefill {:.0f} tokens/s, decode {:.0f} "
      "tokens/s{}, KV {} (peak {}{})]",
      result.prompt_tokens, result.samples.size(),
      result.cached_tokens > 0 ? fmt::format(", {} cached", result.cached_tokens) : "",
      result.time_to_first_token_ms, result.prefill_tokens_per_s, result.decode_tokens_per_s,
      static_cast<std::size_t>(result.num_forwards) == result.samples.size()
          ? ""
          : fmt::format(", {:.2f} tokens a forward", result.tokens_per_forward()),
      bytes_text(result.kv_bytes), bytes_text(result.kv_peak_bytes),
      saved > 0 ? fmt::format(", {} saved by the masks", bytes_text(saved)) : "");
}

nlohmann::json to_json(const GenerateResult& result) {
  nlohmann::json object{{"text", result.text},
                        {"prompt_tokens", result.prompt_tokens},
                        {"completion_tokens", result.samples.size()},
                        {"finish_reason", name_of(result.finish_reason)},
                        {"forwards", result.num_forwards},
                        {"rows_computed", result.num_forward_rows},
                        {"tokens_per_forward", result.tokens_per_forward()},
                        {"time_to_first_token_ms", result.time_to_first_token_ms},
                        {"prefill_tokens_per_s", result.prefill_tokens_per_s},
                        {"decode_tokens_per_s", result.decode_tokens_per_s},
                        {"kv_bytes", result.kv_bytes},
                        {"kv_peak_bytes", result.kv_peak_bytes}};
  if (!result.elastic_boundaries.empty()) object["refreshed_from"] = result.elastic_boundaries;
  return object;
}

nlohmann::json logprobs_of(const GenerateResult& result, const Tokenizer& tokenizer) {
  const auto entry = [&](const TokenLogprob& token) {
    return nlohmann::json{{"id", token.token},
                          {"token", tokenizer.decode({token.token}, false)},
                          {"logprob", token.logprob}};
  };
  auto list = nlohmann::json::array();
  for (const Sample& sample : result.samples) {
    auto item = entry(sample.chosen);
    item["top_logprobs"] = nlohmann::json::array();
    for (const TokenLogprob& other : sample.top) item["top_logprobs"].push_back(entry(other));
    list.push_back(std::move(item));
  }
  return list;
}

}  // namespace perpend
