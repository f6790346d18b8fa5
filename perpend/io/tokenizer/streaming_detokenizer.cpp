#include "perpend/io/tokenizer/streaming_detokenizer.h"

#include "perpend/io/tokenizer/tokenizer_pipeline.h"

namespace perpend {

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

StreamingDetokenizer::~StreamingDetokenizer() = default;

std::string StreamingDetokenizer::push(std::int32_t id) {
  if (!tokenizer_.is_decoded(id, skip_special_)) return "";
  if (!run_) run_ = std::make_unique<DecoderRun>(tokenizer_.pipeline_->decoder);
  run_->push(tokenizer_.decoder_input(id));
  return run_->take();
}

std::string StreamingDetokenizer::finish() {
  if (!run_) return "";
  run_->finish();
  std::string rest = run_->take();
  run_.reset();
  return rest;
}

}  // namespace perpend
