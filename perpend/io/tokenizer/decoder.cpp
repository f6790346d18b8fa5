#include "perpend/io/tokenizer/decoder.h"

#include <utility>

namespace perpend {

class DecoderRun::Sink : public DecoderStage {
 public:
  void text(std::string_view part) override { out += part; }
  void end_token() override {}
  void finish() override {}

  std::string out;
};

DecoderRun::DecoderRun(const Decoder& decoder) : sink_(std::make_unique<Sink>()) {
  DecoderStage* next = sink_.get();
  for (auto step = decoder.rbegin(); step != decoder.rend(); ++step) {
    stages_.push_back((*step)(*next));
    next = stages_.back().get();
  }
}

DecoderRun::~DecoderRun() = default;

void DecoderRun::push(std::string_view token_text) {
  DecoderStage& first = stages_.empty() ? *sink_ : *stages_.back();
  first.text(token_text);
  first.end_token();
}

void DecoderRun::finish() {
  if (!stages_.empty()) stages_.back()->finish();
}

std::string DecoderRun::take() { return std::exchange(sink_->out, {}); }

}  // namespace perpend
