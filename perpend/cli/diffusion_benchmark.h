#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perpend/cache/canvas_rows.h"
#include "perpend/cli/device_rates.h"

namespace perpend {

// Decoding by a network of random weights whose confidences mean nothing: how many tokens a step
// makes final is replayed, everything else is as it is for any answer (rows, head, softmax, choice,
// caches, graphs).
struct DiffusionBenchmark {
  std::string shape = "fast-dllm-v2-7b";
  Device device;
  std::int64_t prompt = 512;
  std::int64_t tokens = 256;   // after it
  std::int64_t sub_block = 0;  // 0: as generate has it
  std::int64_t window = 16;    // of full attention: masked tokens that a step may fill
  std::int64_t tracked = 11;   // of Elastic-Cache: rows, since those of random weights mean nothing
  std::int64_t chunk = 512;    // rows of a prefill pass
  int threads = 0;
  bool without_graph = false;
  bool library_products = false;  // LibTorch's for few rows too
};

// A kind of pass, each of all sequences of a batch but for the prompts, which run one by one.
enum class PassKind { kPrompt, kToken, kBlock, kSubBlock, kFinished, kCanvas };
// "prompt", "token", "block", "sub-block", "finished", "canvas"
std::string_view name_of(PassKind kind);

struct PassTimes {
  PassKind kind = PassKind::kToken;
  std::int64_t rows = 0;        // of the batch
  double logit_rows = 0;        // of the batch, the mean
  std::vector<double> ms = {};  // of each pass
  double bytes = 0;             // weights, keys and values that one reads, the mean
  double flops = 0;             // of one, the mean

  double median_ms() const;
};

// One decoding of a batch.
struct DecodeTimes {
  std::vector<PassTimes> passes = {};
  double decode_ms = 0;         // all but the prompts
  std::int64_t num_tokens = 0;  // of all sequences
  std::int64_t num_forwards = 0;

  double tokens_per_s() const { return static_cast<double>(num_tokens) / decode_ms * 1e3; }
};

// What a sequence is decoded by.
struct DecodeKind {
  double rate = 0;  // tokens that a step makes final; 0: autoregression
  CanvasCache cache = CanvasCache::kBlock;
  // Of the cache elastic: the share of layers that compute all rows, on average, and how often
  // drift is measured.
  double refreshed = 0;
  int num_measurements = 1;
};

// Steps of Elastic-Cache by what they computed, without the first ones, which capture graphs.
struct ElasticTimes {
  DecodeTimes all;
  std::vector<double> step_ms = {};
  std::vector<double> reuse_ms = {};  // of steps that computed no layer whole
  std::vector<double> whole_ms = {};  // of steps that computed all
  double refreshed = 0;               // share of layers that computed all rows
  double rows = 0;                    // mean of a layer that did not, of all steps
};

// A model that is made once and decodes many times.
class DiffusionTimer {
 public:
  // Throws InvalidArgument for a shape that is not known or no diffusion model and sizes that are
  // not positive.
  explicit DiffusionTimer(const DiffusionBenchmark& benchmark);
  ~DiffusionTimer();

  bool is_captured() const;
  bool has_full_attention() const;
  // Whether blocks have parts that are filled one after another.
  bool has_sub_blocks() const;
  int num_layers() const;
  std::int64_t weight_bytes() const;
  const DeviceRates& rates() const;

  // Behind a decoding of a few blocks that is not measured, in which graphs are captured. Throws
  // OutOfMemory where keys do not fit the device. `most_passes`: all, if 0.
  DecodeTimes decode(std::int64_t batch, const DecodeKind& kind, std::int64_t most_passes = 0);
  ElasticTimes decode_elastic(const DecodeKind& kind);

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace perpend
