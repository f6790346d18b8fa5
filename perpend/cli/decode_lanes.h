#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "perpend/cache/cache_policy.h"
#include "perpend/cli/diffusion_benchmark.h"
#include "perpend/decode/diffusion_options.h"
#include "perpend/decode/sequence_steps.h"
#include "perpend/models/llama.h"
#include "perpend/models/pass_runner.h"

namespace perpend {

struct LaneSizes {
  std::int64_t prompt = 0;
  std::int64_t tokens = 0;  // at most, behind it
  std::int64_t chunk = 0;   // rows of a prefill pass
};

// Sequences that are decoded in step: the same pass for all of them, again and again.
class DecodeLanes {
 public:
  // Borrows `model`, and `network`, which runs the passes and is it or stands on it. Without
  // `diffusion` they are decoded token by token.
  DecodeLanes(const Llama& model, const LanguageModel& network, Context& context,
              std::int64_t count, const LaneSizes& sizes,
              const std::optional<DiffusionSetting>& diffusion);

  // From empty sequences on, `tokens` each; ends before that after `most_passes`, unless 0.
  DecodeTimes decode(std::int64_t tokens, std::int64_t most_passes);

 private:
  struct Lane {
    std::unique_ptr<KvSequence> sequence;
    ExactPolicy policy;
    std::unique_ptr<SequenceSteps> steps;
    std::unique_ptr<Denoiser> denoiser;
    bool is_open = false;
  };

  void restart(std::int64_t tokens);
  std::unique_ptr<Denoiser> make_denoiser(std::int64_t tokens);
  void prefill(Lane& lane);
  // The next pass of these sequences; their steps are alike.
  void run_pass(std::span<Lane> lanes, DecodeTimes& times);
  PassKind last_kind() const;
  void count(PassKind kind, const ForwardInput& input, double ms, DecodeTimes& times) const;

  const Llama& model_;
  Context& context_;
  LaneSizes sizes_;
  std::optional<DiffusionSetting> diffusion_;
  std::vector<Mask> masks_;
  KvStore store_;
  PassRunner runner_;
  std::vector<Lane> lanes_;
  CanvasStep seen_;              // by the last denoiser
  std::int64_t num_filled_ = 0;  // then
};

}  // namespace perpend
